// Verifies webhooks as a receiver in JavaScript does. Reads a JSON list of {secret, headers, body} from standard input and writes
// a list of what each verified to: its document, or the name of the error.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const messages = JSON.parse(readFileSync(0, "utf8"));
const found = messages.map(({ secret, headers, body }) => {
  try {
    return new Webhook(secret).verify(body, headers);
  } catch (error) {
    return error.constructor.name;
  }
});
process.stdout.write(JSON.stringify(found));
