// Tests that need a model, with transformers.js: `hubcache run -- npm test`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AutoModel, AutoTokenizer, env } from "@huggingface/transformers";

// transformers.js reads no variable by itself. Without a run, the tests use the hub.
env.remoteHost = `${process.env.HUBCACHE_URL ?? "https://huggingface.co"}/`;
env.allowLocalModels = false;
// It keeps files beside its own code, and a warm cache asks for nothing: a run has an empty directory for it.
if (process.env.HUBCACHE_URL) env.cacheDir = `${process.env.HF_HOME}/transformers.js`;

const MODEL = process.env.MODEL ?? "acme/tiny";

test("a text becomes numbers", async () => {
  const tokenizer = await AutoTokenizer.from_pretrained(MODEL);
  const network = await AutoModel.from_pretrained(MODEL, { dtype: "fp32" });
  const inputs = await tokenizer("hello cached world");
  const { last_hidden_state: state } = await network(inputs);
  assert.deepEqual(state.dims.slice(0, 2), inputs.input_ids.dims);
  assert.deepEqual(Array.from(state.data.slice(0, 4)), [1, 1.125, 1.25, 1.375]);
  await network.dispose();
});
