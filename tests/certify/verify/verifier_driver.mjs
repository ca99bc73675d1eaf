// Runs many cases through certify/verifier.mjs in one process: JSON on stdin, JSON on stdout, bytes in base64.

import { readFileSync } from "node:fs";
import { bounds, openDocument, verify } from "../../../certify/verifier.mjs";

const bytes = (text) => (text === null || text === undefined ? null : new Uint8Array(Buffer.from(text, "base64")));
const { schemas, cases } = JSON.parse(readFileSync(0, "utf8"));
const found = [];
for (const one of cases) {
  const publicKey = one.pem ?? bytes(one.spki);
  if (one.times) found.push(Object.values(bounds(BigInt(one.work), one.times.map(BigInt))));
  else if (one.name) {
    try {
      const { payload } = await openDocument(one.name, bytes(one.content), publicKey, schemas);
      found.push({ code: null, payload: Buffer.from(payload).toString("base64") });
    } catch (error) {
      if (!error.refusal) throw error;
      found.push({ code: error.refusal, reason: error.message, payload: null });
    }
  } else {
    const { at, acceptSimulated = true } = one;
    found.push(await verify({ publicKey, statement: bytes(one.statement), records: bytes(one.records), at, acceptSimulated, schemas }));
  }
}
process.stdout.write(JSON.stringify(found));
