// The second verifier: one module without packages, for Node (18 or later) and browsers (WebCrypto with Ed25519).
//     node certify/verifier.mjs PUBLIC_KEY STATEMENT [RECORDS] [--at TIME] [--accept-simulated]
// Written from the documents, whose JSON Schemas it reads, with no code of `petaseal verify` and with its reason codes.
const { subtle } = globalThis.crypto ?? (await import("node:crypto")).webcrypto;
const SECOND = 10n ** 9n, DAY = 86_400n * SECOND, MANY = Infinity, P = 2n ** 255n - 19n; // P: of Curve25519's field
const ORDER_8 = 0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n; // y of points of order 8
const NOT_CHECKED = ["trust: the key was given; its role, centre, validity and revocation are yours",
  "centre file, campaign, absent nodes, and what policies, profile and ratings say; witnesses, samples, others' claims",
  "rules but R8, R9: believed is what counts not, grade, findings, vendors, nominal, fabric, evidence; devices differ"];
const DOCUMENTS = { // largest file in MiB, name of the subject, and the name of its digest if not the predicate's own
  "node-record": [4, (of) => `${of.node_id}.samples.csv.gz`, "sha256"], revocations: [8, () => "revocations.json"],
  "capacity-statement": [128, () => "records.jsonl", "rfc6962-sha256"], "trust-root": [8, () => "trust-root.json"],
  campaign: [32, (of) => `${of.campaign_id}.campaign.json`], baseline: [64, (of) => `${of.centre_id}.baseline.json`],
  witness: [1 / 16, () => "statement.json", "sha256"], receipt: [1 / 16, () => "statement.json", "sha256"],
  heartbeat: [1 / 16, (of) => `${of.node_id}.heartbeat.json`],
  evidence: [24, (of) => `${of.kind}.output.txt`, "sha256"] };
const refuse = (code, why = code.replaceAll("-", " ")) => { throw Object.assign(new Error(why), { refusal: code }); };
const need = (holds, code, why) => holds || refuse(code, why), distinct = (all) => new Set(all).size === all.length;
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const sha256 = async (bytes) => new Uint8Array(await subtle.digest("SHA-256", bytes));
const digest = async (value) => hex(await sha256(new TextEncoder().encode(encode(value))));
const sum = (values) => values.reduce((whole, value) => whole + value, 0n);
const ns = (time) => BigInt(Date.parse(`${time.slice(0, 19)}Z`)) * 1_000_000n + BigInt(time.slice(20, 26)) * 1000n;
// Bytes that are not JSON (UTF-8, RFC 8259, no halves of characters, at most 64 open brackets) are refused as that.
function parse(bytes) {
  try {
    const input = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    const bare = input.replace(/\\ud[89ab]..\\ud[c-f]..|\\[^u]/gi, ""); // of escapes, but for halves of characters
    let depth = need(!/\\ud[89a-f]/i.test(bare)) && 0;
    for (const sign of bare.replace(/"[^"]*"|[^[\]{}"]+/g, "")) need((depth += "[{".includes(sign) ? 1 : -1) <= 64);
    return [input, JSON.parse(input)];
  } catch { return refuse("json-invalid"); }
}
const label = (line) => (line.choice === "fixed" ? line.precision : `${line.precision}-${line.choice}`);
const rowsOf = (parts) => parts.flatMap((m) => [m.device].flat().map((name, i) => [`${name} ${label(m)}`, m, i]));
const even = (one, columns) => Object.values(columns).every((c) => !Array.isArray(c) || c.length === one.length);
const ROLES = { "issue-mma": "ceiling", "issue-wgmma": "ceiling", "issue-fma": "ceiling", triad: "bandwidth" };
const isSolve = ({ choice }) => choice === "solve" || choice === "mixed";
const WHOLE = { // whether what has the title of a type does not contradict itself
  Measurement: ({ throttle_reasons: _, device, ...m }) => even(device, m) && (!isSolve(m) || (m.precision === "fp64"
    && m.m === m.n && m.n === m.k && m.rms_error_ppm.every((one) => one === null))),
  Closing: ({ shapes: _, node_id: nodes, ...columns }) => even(nodes, columns),
  Companion: ({ kernel, role, precision: _, device, ...columns }) => even(device, columns)
    && role === (ROLES[kernel] ?? "path") && device.every((_one, i) => { // what its role gives, or why there is none
      const has = (name) => columns[name][i] !== null, ran = !has("trouble"), path = role === "path";
      const [rate, other] = role === "bandwidth" ? ["rate_mb_s", "rate_mflop_s"] : ["rate_mflop_s", "rate_mb_s"];
      return ran === columns.elapsed_ns[i] > 0 && has(rate) === ran && !has(other) && has("exact") === (ran && !path)
        && (ran || !has("clock_mean_mhz")) && ((ran && path) || !(has("row_error_ppm") || has("rms_error_ppm")));
    }),
  NodeRecord: ({ devices, models, measurements, failures, companions }) => {
    const names = devices.map((one) => one.device), rows = rowsOf([...measurements, ...failures]).map(([key]) => key);
    const beside = companions.flatMap((one) => one.device.map((name) => `${name} ${one.kernel} ${one.precision}`));
    return distinct(names) && distinct(rows) && distinct(beside) && devices.every((one) => one.model < models.length)
      && [...rows, ...beside].every((row) => names.includes(row.split(" ")[0]));
  }, NetworkMeasurement: (m) => even(m.device, m) && (m.run === "compute") === (m.tokens === null) };
// Canonical JSON: read into a type (a JSON Schema), written again, and compared with what was read.
const encode = (value) => (value === null || typeof value !== "object" ? JSON.stringify(value)
  : Array.isArray(value) ? `[${value.map(encode)}]`
    : `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${encode(value[key])}`)}}`);
const SPACE = /[ \t\r\n]*/y, TOKEN = /[[\]{},:]|[^ \t\r\n[\]{},:"]*/y; // of all tokens but strings
function tokenAt(input, from) { // strings are megabytes, which no pattern that looks for their end matches
  SPACE.lastIndex = from; SPACE.test(input); TOKEN.lastIndex = SPACE.lastIndex;
  if (input[TOKEN.lastIndex] !== '"') return [SPACE.lastIndex, TOKEN.exec(input)[0]];
  for (let end = TOKEN.lastIndex, at;;) {
    for (at = end = input.indexOf('"', end + 1); input[at - 1] === "\\";) at -= 1;
    if ((end - at) % 2 === 0) return [SPACE.lastIndex, input.slice(SPACE.lastIndex, end + 1)];
  }
}
const known = new Map(), DIGEST = { pattern: "^(?:rfc6962-)?sha256$" }; // known: what was compiled before
const compiled = (key, make) => known.get(key) ?? known.set(key, make(key)).get(key);
const isText = (text, { pattern = "", minLength = 0, maxLength = MANY, quads = 1, enum: words = [text] }) =>
  words.includes(text) && compiled(pattern, (one) => new RegExp(one, "u")).test(text) && text.length >= minLength
  && !(text.length % quads) && (text.length <= maxLength || [...text.slice(0, 2 * maxLength + 1)].length <= maxLength);
function decode(input, root) { // input: text that is JSON
  let now = "", at = 0, late = null; // now: the token that is read; late: refused if nothing else is wrong
  const wrong = (code = "schema-invalid") => refuse(code), read = () => ([at, now] = tokenAt(input, at + now.length));
  const flat = (one) => (one.$ref ? flat(root.$defs[one.$ref.split("/")[2]]) : one.anyOf?.flatMap(flat) ?? [one]);
  const kinds = (schema) => Object.fromEntries(flat(schema).map((one) => [one.type ?? "string", one]));
  const items = (close, one) => { for (read(); now !== close;) if (one(), now === ",") read(); };
  const value = (schema) => {
    const found = now === "{" ? {} : now === "[" ? [] : JSON.parse(now), integer = /^-?\d+$/.test(now) && "integer";
    const type = { "{": "object", "[": "array", null: "null" }[now] ?? (integer || typeof found); // a float is of none
    const rule = compiled(schema, kinds)[type] ?? wrong();
    const { properties: fields, required: needed, propertyNames: names = DIGEST, minItems = 0, maxItems = MANY } = rule;
    if (type === "object") {
      items("}", () => {
        const key = JSON.parse(now), fits = fields ? Object.hasOwn(fields, key) : isText(key, names);
        found[key] = fits ? (read(), read(), value(fields ? fields[key] : rule.additionalProperties)) : wrong();
      });
      for (const key in fields) if (!(key in found) && needed?.includes(key)) wrong();
        else if (!(key in found) && "default" in fields[key]) found[key] = fields[key].default;
      if (WHOLE[rule.title]?.(found) === false) wrong();
    } else if (type === "array") items("]", () => found.push(value(rule.items)));
    if (type === "string" && !isText(found, rule)) late = rule.quads ? "base64-not-canonical"
      : wrong(rule.pattern?.includes("T[0-9]") ? "time-invalid" : undefined);
    if (type === "array" && (found.length < minItems || found.length > maxItems)) wrong();
    if (type === "integer" && (found < rule.minimum || found > rule.maximum)) wrong();
    return read(), found;
  };
  const found = (read(), value(root));
  return encode(found) !== input ? wrong("not-canonical") : late ? refuse(late) : found;
}
const HIDDEN = new RegExp(String.raw`[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\u034f\u115f\u1160\u17b4\u17b5\u180b-`
  + String.raw`\u180f\u3164\ufe00-\ufe0f\uffa0\u{e0100}-\u{e01ef}]`, "u"); // what is not seen, or not assigned
function checkText(input) {
  need(input.normalize("NFC") === input, "text-not-nfc");
  need(!HIDDEN.test(input) && !/\\[^"\\]/.test(input.replaceAll("\\\\", "")), "text-forbidden-character");
  const read = (time) => new Date(Math.max(Date.parse(`${time}Z`), Date.parse("0001-01-01")) || 0).toISOString();
  const times = input.matchAll(/"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{6}Z"/g); // 30 February is read as 2 March
  for (const [, time] of times) need(read(time).startsWith(time), "time-invalid", `${time} is not a time`);
}
const struct = (properties) => ({ type: "object", properties, required: Object.keys(properties) });
const BASE64 = { type: "string", pattern: "^[A-Za-z0-9+/]*(?:[AQgw]==|[AEIMQUYcgkosw048]=)?$", quads: 4 };
const ENVELOPE = struct({ payload: BASE64, payloadType: { type: "string", maxLength: 256 }, signatures: {
  type: "array", items: struct({ keyid: { type: "string", pattern: "^[0-9a-f]{64}$" }, sig: BASE64 }) } });
const unbase64 = (text) => (globalThis.Buffer ? new Uint8Array(Buffer.from(text, "base64"))
  : Uint8Array.from(atob(text), (character) => character.charCodeAt(0)));
function readPem(pem) {
  need(!pem.includes("PRIVATE KEY"), "private-key-given");
  const text = /^\s*-{5}BEGIN PUBLIC KEY-{5}\s+(\S[^-]*)\s-{5}END PUBLIC KEY-{5}\s*$/.exec(pem)?.[1].replace(/\s/g, "");
  return text && isText(text, BASE64) ? unbase64(text) : refuse("key-invalid");
}
async function loadKey(given) {
  const spki = typeof given === "string" ? readPem(given) : given, point = spki.slice(12);
  need(spki.length === 44 && hex(spki.slice(0, 12)) === "302a300506032b6570032100", "key-unsupported");
  const y = BigInt(`0x${hex(spki.slice(12).reverse())}`) & (2n ** 255n - 1n);
  need(y < P && ![0n, 1n, P - 1n, ORDER_8, P - ORDER_8].includes(y), "key-weak");
  const key = subtle.importKey("raw", point, "Ed25519", false, ["verify"]).catch(() => refuse("key-unsupported"));
  return { keyid: hex(await sha256(spki)), key: await key };
}
function openEnvelope(content, mebibytes) {
  need(content.length <= mebibytes * 2 ** 20, "document-too-large");
  const [text] = parse(content.at(-1) === 10 ? content.subarray(0, -1) : content), envelope = decode(text, ENVELOPE);
  const keyids = envelope.signatures.map((one) => one.keyid), many = keyids.length > 8 ? "too-many" : "duplicate";
  need(keyids.length && keyids.length <= 8 && distinct(keyids), `signature-${keyids.length ? many : "missing"}`);
  return { ...envelope, payload: unbase64(envelope.payload) };
}
async function checkSignature({ payload, payloadType: type, signatures }, { keyid, key }) {
  const mine = signatures.find((one) => one.keyid === keyid) ?? refuse("key-not-trusted");
  const pae = new Blob([`DSSEv1 ${new Blob([type]).size} ${type} ${payload.length} `, payload]);
  need(await subtle.verify("Ed25519", key, unbase64(mine.sig), await pae.arrayBuffer()), "signature-invalid");
}
async function openPayload(name, { payload, payloadType }, schemas) {
  const [, subjectOf, kind] = DOCUMENTS[name];
  need(payloadType === "application/vnd.in-toto+json", "payload-type-wrong");
  const [input, header] = parse(payload);
  if (typeof header?._type === "string" && typeof header.predicateType === "string") { // the cause of all that follows
    need(header._type === "https://in-toto.io/Statement/v1", "statement-type-wrong");
    const early = Object.keys(DOCUMENTS).filter((one) => one !== "evidence"); // which v0.2 added
    const old = early.some((one) => header.predicateType === `urn:petaseal:${one}/v0.1`);
    need(!old, "format-withdrawn", "v0.1 is withdrawn: make it anew; for a statement, measure and certify again");
    need(header.predicateType === `urn:petaseal:${name}/v0.2`, "predicate-type-wrong");
  }
  const { subject: [subject], predicate } = decode(input, schemas[name]); checkText(input);
  const root = subject.digest[kind ?? "sha256"], alone = root && Object.keys(subject.digest).length === 1;
  need(alone && subject.name === subjectOf(predicate) && (kind || root === await digest(predicate)), "subject-wrong");
  return { predicate, root, payload };
}
/** Open a signed document: {predicate, root, payload}, or an Error with the reason code as its `refusal` is thrown. */
export async function openDocument(name, content, publicKey, schemas) {
  const given = await loadKey(publicKey), envelope = openEnvelope(content, DOCUMENTS[name][0]);
  if (name !== "node-record") await checkSignature(envelope, given);
  const opened = await openPayload(name, envelope, schemas), spki = opened.predicate.signer_spki;
  if (name !== "node-record") return opened;
  need(spki && isText(spki, BASE64), "base64-not-canonical");
  const key = await loadKey(unbase64(spki)); // a record's own: integrity, not identity
  need(envelope.signatures.every((one) => one.keyid === key.keyid), "signer-mismatch");
  await checkSignature(envelope, key);
  return need(key.keyid !== given.keyid, "role-not-allowed"), { ...opened, keyid: key.keyid };
}
const least = (low, high, holds, mid = (low + high) / 2n) => // that a condition holds for, as it does for `high`
  (low === high ? low : holds(mid) ? least(low, mid, holds) : least(mid + 1n, high, holds));
/** R8 and R9: throughput in MFLOP/s, from work in MFLOP and the 30 times in ns. */
export function bounds(work, times) {
  const total = sum(times), y = times.map((time) => 30n * time - total), w = work * SECOND;
  const d = sum(y.map((a) => a * a)), c = sum(y.slice(1).map((b, i) => y[i] * b));
  let [p, q] = d ? [34n * (c > 0n ? c : 0n) + d, 30n * d] : [1n, 30n];
  if (10n * p > 9n * q) [p, q] = [9n, 10n];
  const num = 1_699_127n ** 2n * 30n * d * (q + p), den = 10n ** 12n * 29n * 900n * (q - p);
  const half = least(0n, 8n * total, (h) => h * h * den >= num); // h < 1.7 sqrt(30/29 19) S
  const within = (upper) => (upper * total - w) ** 2n * den >= upper * upper * num, from = (w + total - 1n) / total;
  const upper = half < total ? Number(least(from, w / (total - half) + 1n, within)) : null;
  return { sustained_mflop_s: Number(w / total), certified_mflop_s: Number(w / (total + half)), upper_mflop_s: upper };
}
/** What a figure gives by R8 and R9; null where it states other rates, or is of a solve that is wrong (R15). */
function ratesOf(m, i) {
  const times = m.subwindow_over_ns[i].map((over) => BigInt(m.subwindow_min_ns[i]) + BigInt(over));
  const [launches, rows, n, k] = [m.launches[i], m.m, m.n, m.k].map(BigInt);
  const work = launches * (isSolve(m) ? n * n * (4n * n + 9n) : 12n * rows * n * k) / 6_000_000n;
  const rates = bounds(work, times), stated = Object.fromEntries(Object.keys(rates).map((name) => [name, m[name][i]]));
  const solved = !isSolve(m) || (m.row_error_ppm[i] !== null && m.row_error_ppm[i] < 16_000_000);
  return solved && encode([stated, Math.min(...m.subwindow_over_ns[i])]) === encode([rates, 0]) ? rates : null;
}
async function merkleRoot(leaves) { // RFC 6962, 2.1
  if (leaves.length === 1) return sha256(Uint8Array.of(0, ...leaves[0]));
  const split = 2 ** Math.ceil(Math.log2(leaves.length) - 1), halves = [leaves.slice(0, split), leaves.slice(split)];
  return sha256(Uint8Array.of(1, ...await merkleRoot(halves[0]), ...await merkleRoot(halves[1])));
}
/** Whether the sums on each step of evidence, and under each limit, are those of what counts. */
function stepsFit(s) {
  const of = (rows, devices) => rows.reduce((a, one) => [a[0] + one[devices], a[1] + one.certified_mflop_s], [0, 0]);
  const on = (rows, step) => rows.filter((one) => one.step === step), same = (a, b) => encode(a) === encode(b);
  const inside = ({ never_scheduled_mflop_s: never, on_accepted_hold_mflop_s: held, certified_mflop_s: all }) =>
    never <= held && held <= all;
  const under = (pool) => s.ceilings.filter((one) => one.pool === pool.pool && label(one) === label(pool));
  const parts = (name) => s.pools.filter((one) => one.pool_class === name).flatMap((one) => one.steps);
  const shown = s.shown.every(({ shown: totals, ...line }) =>
    same(of(under(line), "counted"), [totals.devices, totals.certified_mflop_s]));
  return shown && [...s.pools, ...s.classes].every((line) => {
    const [rows, devices] = line.pool ? [under(line), "counted"] : [parts(line.pool_class), "devices"];
    return [line.counted, line.existing, line.with_witness].every(inside)
      && line.with_witness.devices <= line.untested.devices
      && same(of(line.steps, "devices"), [line.counted.devices, line.counted.certified_mflop_s])
      && of(on(line.steps, "none"), "devices")[1] <= line.counted.never_scheduled_mflop_s
      && [...rows, ...line.steps].every(({ step }) =>
        same(of(on(rows, step), devices), of(on(line.steps, step), "devices")));
  });
}
async function checkStatement(s, root, at, skew, acceptSimulated) {
  const { issued_at: issued, valid_until: until, previous_sha256: before, supersedes: old, sequence } = s.issue;
  const [judged, named] = [s.verdicts, s.policies].map((of) => encode([...new Set(of.map((v) => v.policy))].sort()));
  const ended = ns(s.starts_at) + BigInt(s.campaign.windows.at(-1).closes_ns), later = (time) => ns(time) - ended;
  for (const [code, holds] of [
    ["simulated", !s.simulated || acceptSimulated], ["not-yet-valid", ns(at) + skew * SECOND >= ns(issued)],
    ["expired", at < until], ["sequence-invalid", (sequence === 1) === !before && old.every((one) => one === before)],
    ["campaign-differs", s.campaign_sha256 === await digest(s.campaign) && s.centre_sha256 === await digest(s.centre)],
    ["window-invalid", s.campaign.windows.at(-1).closes_ns <= DAY],
    ["issued-before-measured", later(issued) >= 0n], ["verdict-differs", judged === named],
    ["times-reversed", s.measured_from <= s.measured_until && s.measured_until <= issued],
    ["validity-too-long", later(until) <= 366n * DAY], ["measurement-too-old", before || later(issued) <= 30n * DAY],
    ["records-root", root === s.records_root]]) need(holds, code);
}
function checkBelongs(record, { campaign, ...s }, node) {
  for (const [code, field, wanted] of [["rules-differ", "rules", s.rules], ["start-differs", "starts_at", s.starts_at],
    ["campaign-differs", "campaign_sha256", s.campaign_sha256], ["challenge-differs", "challenge", campaign.challenge],
    ["centre-differs", "centre_id", campaign.centre_id], ["profile-differs", "profile_sha256", campaign.profile_sha256],
    ["node-not-expected", "node_id", node?.node_id], ["pool-differs", "pool", node?.pool],
    ["campaign-differs", "campaign_id", campaign.campaign_id], ["profile-differs", "profile", campaign.profile],
    ["campaign-differs", "campaign", campaign.self_issued ? campaign : null],
  ]) need(encode(record[field]) === encode(wanted), code, `the ${field} of the record of ${record.node_id} is another`);
  need(record.started_at <= record.ready_at && record.ready_at <= record.ended_at, "times-reversed");
}
const among = (names) => (names === "all" ? { has: () => true } : new Set(names));
const ppm = (part, whole) => (whole > 0 ? Number(BigInt(part) * 1_000_000n / BigInt(whole)) : null);
const add = (first, ...others) => Object.fromEntries(Object.keys(first).map((key) =>
  [key, others.reduce((a, one) => (a === null || one[key] === null ? null : a + one[key]), first[key])]));
async function recompute(s, bytes, publicKey, schemas) {
  need(bytes.length, "no-records");
  const { centre, campaign, classes } = s, records = [], wrong = [];
  const same = (what, stated, computed) => encode(stated) === encode(computed) || wrong.push(what);
  const listed = new Map(s.not_counted.map((one) => [`${one.node_id} ${one.device}`, one.codes]));
  const nodes = new Map(campaign.nodes.map((node) => [node.node_id, node])), none = bounds(0n, Array(30).fill(1n));
  const zero = { devices: 0, ...none };
  const pools = centre.pools.map((pool, i) => ({ ...pool, nodes: among(pool.nodes), devices: among(pool.devices),
    line: s.pools[i] ?? s.pools[0], found: 0, present: new Set(), solves: {}, own: zero }));
  for (let from = 0, end; from < bytes.length; from = end) {
    end = bytes.indexOf(10, from) + 1 || bytes.length;
    const opened = await openDocument("node-record", bytes.subarray(from, end), publicKey, schemas);
    const { node_id, devices, models, measurements, failures, started_at, ended_at } = opened.predicate;
    checkBelongs(opened.predicate, s, nodes.get(node_id));
    const simulated = devices.some((one) => models[one.model].simulated);
    records.push({ node_id, leaf: await sha256(opened.payload), started_at, ended_at, simulated });
    const rows = new Map(rowsOf([...measurements, ...failures]).map(([key, ...row]) => [key, row]));
    const placed = among(campaign.self_issued ? "all" : [nodes.get(node_id).pool, ...nodes.get(node_id).also]);
    for (const { device } of devices) {
      const pool = pools.find((one) => placed.has(one.pool) && one.nodes.has(node_id) && one.devices.has(device));
      const [m, i] = (pool && rows.get(`${device} ${label(pool.line)}`)) ?? [{}], place = `${node_id} ${device}`;
      if (pool) [pool.found, pool.present] = [pool.found + 1, pool.present.add(node_id)];
      for (const choice of pool ? ["solve", "mixed"] : []) { // wrong ones are void, and not shown
        const [one, at] = rows.get(`${device} fp64-${choice}`) ?? [{}], rates = one.launches ? ratesOf(one, at) : null;
        if (rates) pool.solves[choice] = add(pool.solves[choice] ?? zero, { devices: 1, ...rates });
      }
      if (!m.launches) same(place, listed.get(place) ?? [], [pool ? m.code ?? "untested" : "no-pool"]);
      if (!m.launches || listed.has(place)) continue;
      const rates = ratesOf(m, i);
      same(`the figure of ${place} (R9, R15)`, rates !== null, true);
      same(`the key of ${node_id}`, nodes.get(node_id).keyid ?? opened.keyid, opened.keyid);
      pool.own = add(pool.own, { devices: 1, ...(rates ?? none) });
    }
  }
  const all = (field) => records.map((one) => one[field]), shas = all("leaf").map(hex);
  need(distinct(all("node_id")), "node-twice"); need(encode(shas) === encode([...shas].sort()), "records-unsorted");
  need(shas.length === s.records, "records-count", `counts ${s.records} records, and there are ${shas.length}`);
  need(hex(await merkleRoot(all("leaf"))) === s.records_root, "records-root", "binds other records");
  same("simulated or profile", [s.simulated, s.profile, s.profile_sha256],
    [all("simulated").includes(true), campaign.profile, campaign.profile_sha256]);
  same("its times", [s.measured_from, s.measured_until], [all("started_at").sort()[0], all("ended_at").sort().at(-1)]);
  same("the pools", s.pools.map((line) => [line.pool, line.pool_class]), pools.map((one) => [one.pool, one.class]));
  for (const { line, own, found, present, ...pool } of pools) {
    const { precision, choice } = classes.find((one) => one.pool_class === pool.class) ?? {};
    same(`pool ${pool.pool}`, line, { ...line, precision, choice, nodes_recorded: present.size, devices_found: found,
      counted: { ...line.counted, ...own }, untested: { ...line.untested, devices: found - own.devices } });
  }
  same("the solves that are shown (R15)", s.shown.filter(isSolve).every(({ pool: name, choice, shown }) => {
    const most = pools.find((one) => one.pool === name)?.solves[choice] ?? zero;
    return ["devices", "certified_mflop_s", "sustained_mflop_s"].every((field) => shown[field] <= most[field]);
  }), true);
  same("the classes", classes, ["intelligent", "supercomputing", "general", "edge"].flatMap((name) => {
    const mine = pools.filter((one) => one.class === name), of = (part) => add(...mine.map((one) => one.line[part]));
    const line = classes.find((one) => one.pool_class === name);
    return mine.length ? [{ ...line, counted: of("counted"), existing: of("existing"),
      with_witness: of("with_witness"), untested: of("untested") }] : [];
  }));
  same("the sums by step", stepsFit(s), true);
  const { certified_mflop_s, sustained_mflop_s, nominal_mflop_s } = add(...classes.map((one) => one.counted));
  const part = classes.find((one) => one.pool_class === "intelligent")?.counted.certified_mflop_s ?? 0;
  const totals = { certified_mflop_s, sustained_mflop_s, nominal_mflop_s };
  same("the bookkeeping", s.bookkeeping, { ...totals, intelligent_share_ppm: ppm(part, certified_mflop_s) });
  const told = s.verdicts.filter((v) => v.operator && v.bases.length); // what is decided is so by its numbers
  for (const v of s.verdicts.filter((one) => !told.includes(one))) { // a share that is shown; a guide, by its items
    const met = v.verdict === "met" && !told.some((one) => one.policy === v.policy && one.verdict === "met");
    const decides = v.bases.length && [v, ...v.bases].some((one) => one.verdict !== "insufficient_evidence");
    same(v.condition, !met && !decides, true);
  }
  for (const v of told) for (const one of v.bases) {
    const lines = classes.filter((line) => v.classes.includes(line.pool_class)), whole = one.whole_mflop_s ?? 0;
    const of = (part) => lines.reduce((a, line) => a + line[part][`${one.basis}_mflop_s`], 0);
    const observed = of("counted") - (v.counted === "newly_added" ? of("existing") : 0);
    const [rate, limit] = v.threshold_ppm === null ? [BigInt(observed), BigInt(v.threshold_mflop_s ?? 0)]
      : [BigInt(observed) * 1_000_000n, BigInt(v.threshold_ppm) * BigInt(whole)]; // of a share
    const missing = v.threshold_ppm === null ? v.missing_at_most_mflop_s : 0; // null: nobody knows
    const over = (more) => (v.operator === ">" ? rate + more > limit : rate + more >= limit);
    const sound = { met: over(0n), not_met: !over(BigInt(missing ?? limit)) };
    same(`the numbers of ${v.condition}`, [one.observed_mflop_s, one.observed_ppm], [observed, ppm(observed, whole)]);
    same(`${v.condition}`, [v, one].every(({ verdict: w }) => !(w in sound) || (sound[w] && !s.simulated)), true);
  }
  need(!wrong.length, "statement-differs", `says something else than its records: ${wrong[0]}`);
  return "records, their Merkle root, R8 and R9, sums, the numbers of verdicts";
}
/** Verify a statement and records.jsonl (bytes or null) under a key (PEM or DER bytes); `schemas` by document. */
export async function verify({ publicKey, statement, records, at, acceptSimulated = false, schemas }) {
  const [checked, notChecked] = [[], [...NOT_CHECKED]];
  try {
    const types = schemas ?? await published(), time = at ?? `${new Date().toISOString().slice(0, -1)}000Z`;
    need(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(time) && Date.parse(time), "usage", "TIME is not a time");
    const { predicate, root } = await openDocument("capacity-statement", statement, publicKey, types);
    await checkStatement(predicate, root, time, at ? 0n : 120n, acceptSimulated); // 120 s: clocks differ
    checked.push("signature and form, issue, validity and sequence");
    const ours = predicate.rules === "petaseal-rules/0.2";
    need(!ours || records || stepsFit(predicate), "statement-differs", "its sums by step are not what it counts");
    if (ours && records) checked.push(await recompute(predicate, records, publicKey, types));
    else notChecked.push(`records, sums and verdicts: ${ours ? "no records were given" : "other rules: rules-differ"}`);
    return { accepted: true, code: null, reason: null, checked, notChecked, predicate };
  } catch (error) {
    if (!error.refusal) throw error;
    return { accepted: false, code: error.refusal, reason: error.message, checked, notChecked, predicate: null };
  }
}
async function published() { // the schemas that lie beside the documentation
  const file = globalThis.process && (await import("node:fs/promises")).readFile;
  const read = async (url) => JSON.parse(file ? await file(url) : await (await fetch(url)).text());
  const one = async (name) => [name, await read(new URL(`../docs/schemas/${name}.schema.json`, import.meta.url))];
  return Object.fromEntries(await Promise.all(Object.keys(DOCUMENTS).map(one)));
}
if (globalThis.process?.argv?.[1]?.endsWith("verifier.mjs")) {
  const [{ parseArgs }, { readFile }] = [await import("node:util"), await import("node:fs/promises")];
  try {
    const options = { at: { type: "string" }, "accept-simulated": { type: "boolean" } };
    const { values: { at, "accept-simulated": accept }, positionals } = parseArgs({ allowPositionals: true, options });
    need([2, 3].includes(positionals.length), "usage", "needs PUBLIC_KEY STATEMENT [RECORDS]");
    const read = (file) => readFile(file).catch(() => refuse("file-missing", `${file} cannot be read`));
    const [key, statement, records] = await Promise.all(positionals.map(read));
    const report = await verify({ publicKey: key.toString(), statement, records, at, acceptSimulated: accept });
    for (const what of [...report.checked, ...report.notChecked.map((one) => `NOT CHECKED: ${one}`)]) console.log(what);
    console.log(report.accepted ? "ACCEPTED" : refuse(report.code, report.reason));
  } catch ({ refusal: code = "usage", message }) {
    console.error(`REFUSED [${code}]: ${message}`);
    process.exitCode = /^(file-missing|key-invalid|no-records|private-key-given|usage)$/.test(code) ? 2 : 1;
  }
}
