// Loads a model and its tokenizer with transformers.js as a program would, and runs it on one text:
// load.mjs ROOT PATH_TEMPLATE REVISION CACHE_DIR MODEL TEXT
// Prints {"tokens": [...], "dims": [...], "values": [...]} on one line.

import { AutoModel, AutoTokenizer, env } from "@huggingface/transformers";

const [root, template, revision, cacheDir, model, text] = process.argv.slice(2);
env.allowLocalModels = false;
env.remoteHost = root;
env.remotePathTemplate = template;
env.cacheDir = cacheDir;

const tokenizer = await AutoTokenizer.from_pretrained(model, { revision });
const network = await AutoModel.from_pretrained(model, { revision, dtype: "fp32" });
const inputs = await tokenizer(text);
const { last_hidden_state: state } = await network(inputs);
const tokens = Array.from(inputs.input_ids.data, Number);
console.log(JSON.stringify({ tokens, dims: state.dims, values: Array.from(state.data) }));
await network.dispose();
