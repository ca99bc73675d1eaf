// Runs the JavaScript verifier in the reader's browser over the signed statement and what the reader gives: the key, and
// records from his own disk. Nothing of that is sent anywhere. Every word comes from the page.
import { verify } from "./verifier.mjs";

const form = document.getElementById("verify-form"), answer = document.getElementById("verify-answer");
const words = form.dataset;
const DOCUMENTS = ["capacity-statement", "node-record"];
const MFLOP_PER_PFLOP = 1_000_000_000n;

const element = (name, text, attributes = {}) => {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};
const list = (title, items, attributes) => {
  const made = document.createElement("ul");
  made.append(...items.map((item) => element("li", item, attributes)));
  return items.length ? [element("h4", title), made] : [];
};
const pflops = (mflop) => { // truncated, never rounded
  const rate = BigInt(mflop), whole = rate / MFLOP_PER_PFLOP, rest = String(rate % MFLOP_PER_PFLOP).padStart(9, "0");
  return `${whole.toLocaleString("en")}.${rest.slice(0, 6)} PFLOPS`;
};
const show = (kind, title, ...parts) => {
  const box = element("div", "", { class: `answer ${kind}` });
  box.append(element("h3", title), ...parts);
  answer.replaceChildren(box);
};
const fetched = async (url) => {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return response;
};
const bytes = async (file) => (file?.size ? new Uint8Array(await file.arrayBuffer()) : null);
const schemas = async () => Object.fromEntries(await Promise.all(DOCUMENTS.map(async (name) => [
  name, await (await fetched(new URL(`schemas/${name}.schema.json`, import.meta.url))).json()])));

async function run() {
  const given = new FormData(form), file = await bytes(given.get("key-file"));
  const publicKey = file ? new TextDecoder().decode(file) : given.get("key").trim();
  if (!publicKey) { show("", words.noKey); form.elements.key.focus(); return; }
  show("", words.running);
  const at = `${new Date().toISOString().slice(0, -1)}000Z`;
  const [types, reasons, statement, records] = await Promise.all([
    schemas(), fetched(words.reasons).then((one) => one.json()),
    fetched(words.envelope).then(async (one) => new Uint8Array(await one.arrayBuffer())), bytes(given.get("records")),
  ]);
  const acceptSimulated = given.get("simulated") === "on";
  const found = await verify({ publicKey, statement, records, acceptSimulated, schemas: types });
  const done = [element("p", `${words.at} ${at}`), ...list(words.checked, found.checked, { lang: "en" }),
    ...list(words.notChecked, found.notChecked, { lang: "en" })];
  if (!found.accepted) {
    show("no", `${words.refused} [${found.code}]`, element("p", reasons[found.code] ?? ""),
      element("p", found.reason, { lang: "en", class: "soft" }), ...done);
    return;
  }
  const { centre, issue, classes, simulated, grade } = found.predicate;
  const warnings = [simulated && words.warnSimulated, grade === "smoke" && words.warnSmoke, !grade && words.warnNothing];
  const figures = classes.map((line) => `${words[`class${line.pool_class[0].toUpperCase()}${line.pool_class.slice(1)}`]} ${
    line.precision.toUpperCase()}: ${words.certified} ${pflops(line.counted.certified_mflop_s)}`);
  const name = `${centre.centre_id} / ${centre.project_id ?? "—"} / ${issue.sequence}`;
  show("yes", words.accepted, ...warnings.filter(Boolean).map((text) => element("p", text, { class: "warn" })),
    element("h4", words.signed), element("p", name), ...list("", figures).slice(1), ...done);
}
form.hidden = false;
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!globalThis.crypto?.subtle) { show("no", words.failed, element("p", words.unsupported)); return; }
  const button = form.querySelector("button");
  button.disabled = true;
  run().catch((error) => show("no", words.failed, element("p", error.message, { lang: "en" })))
    .finally(() => { button.disabled = false; });
});
