// Unmodified SDKs at gateway routes, as in gateway.py: `node gateway.mjs SDK BASE-URL`. The SDKs are in $NODE_SDKS/node_modules.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const require = createRequire(process.env.NODE_SDKS + '/here.js');
const [sdk, url] = process.argv.slice(2);
const asked = [{ role: 'user', content: 'Why?' }];
const weather = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const text = '{"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": []}}\n'.repeat(3);
const faults = { 401: '401', 429: '429=none', 500: '500', overloaded: sdk === 'anthropic' ? '529=none' : '503=none' };
const long = { 'X-Provider-Pace': '20ms', 'X-Provider-Tokens': '3000' };

function headersOf(name, more = {}) {
  const fault = faults[name] ? { 'X-Provider-Fault': faults[name] } : {};
  return { 'X-Provider-Key': `${sdk}/javascript/${name}`, ...fault, ...more };
}

async function failure(call) {
  try {
    await call();
  } catch (error) {
    return { by: error.constructor.name, status: error.status ?? null, id: Boolean(error.requestID), code: String(error.code) };
  }
  return { by: null };
}

async function joined(stream, pick) {
  let all = '';
  for await (const part of stream) all += pick(part) ?? '';
  return all;
}

async function bytesOf(response) {
  return Buffer.from(await response.arrayBuffer()).toString();
}

function openai() {
  const { default: OpenAI, toFile } = require('openai');
  const made = (name, more) => new OpenAI({ baseURL: url + '/v1', apiKey: '-', defaultHeaders: headersOf(name, more) });
  const chat = (client, more) => client.chat.completions.create({ model: 'm', messages: asked, ...more });
  const fails = (name) => failure(() => chat(made(name)));
  return {
    answer: async (name) => (await chat(made(name))).choices[0].message.content,
    'answer, streamed': async (name) => joined(await chat(made(name), { stream: true }), (c) => c.choices[0]?.delta.content),
    tools: async (name) => {
      const tools = [{ type: 'function', function: { name: 'forecast', parameters: weather } }];
      const client = made(name);
      const { message } = (await chat(client, { tools })).choices[0];
      const result = { role: 'tool', tool_call_id: message.tool_calls[0].id, content: 'sunny' };
      return (await chat(client, { tools, messages: [...asked, message, result] })).choices[0].message.content;
    },
    responses: async (name) => (await made(name).responses.create({ model: 'm', input: 'Why?' })).output_text,
    'responses, streamed': async (name) =>
      joined(await made(name).responses.create({ model: 'm', input: 'Why?', stream: true }),
        (e) => (e.type === 'response.output_text.delta' ? e.delta : '')),
    embeddings: async (name) =>
      (await made(name).embeddings.create({ model: 'm', input: ['a', 'b'] })).data.map((e) => e.embedding.length),
    files: async (name) => {
      const client = made(name);
      const file = await client.files.create({ file: await toFile(Buffer.from(text), 'in.jsonl'), purpose: 'batch' });
      await client.files.retrieve(file.id);
      const same = (await bytesOf(await client.files.content(file.id))) === text;
      return same && (await client.files.delete(file.id)).deleted;
    },
    batch: async (name) => {
      const client = made(name);
      const given = await client.files.create({ file: await toFile(Buffer.from(text), 'in.jsonl'), purpose: 'batch' });
      const { id } = await client.batches.create({ input_file_id: given.id, endpoint: '/v1/chat/completions', completion_window: '24h' });
      const batch = await client.batches.retrieve(id);
      const lines = (await bytesOf(await client.files.content(batch.output_file_id))).trim().split('\n');
      return lines.map((line) => JSON.parse(line).response.body.choices[0].message.content);
    },
    realtime: async (name) => {
      const { OpenAIRealtimeWS } = require('openai/realtime/ws');
      const connection = new OpenAIRealtimeWS({ model: 'm' }, made(name).withOptions({ baseURL: process.env.REALTIME }));
      connection.socket.on('open', () => {
        connection.send({ type: 'session.update', session: { type: 'realtime' } });
        connection.send({ type: 'response.create' });
      });
      const said = [];
      return new Promise((resolve, reject) => {
        connection.on('error', reject);
        connection.on('event', (event) => {
          said.push(event.type);
          if (event.type === 'response.done') {
            connection.close();
            resolve(said);
          }
        });
      });
    },
    401: fails, 429: fails, 500: fails, overloaded: fails,
    'error in a stream': (name) =>
      failure(async () => joined(await chat(made(name, { 'X-Provider-Fault': 'error-event=5' }), { stream: true }), () => '')),
    cancelled: async (name) => {
      for await (const _ of await chat(made(name, long), { stream: true })) break;
      return 'left';
    },
  };
}

function anthropic() {
  const { default: Anthropic, toFile } = require('@anthropic-ai/sdk');
  const made = (name, more) => new Anthropic({ baseURL: url, apiKey: '-', defaultHeaders: headersOf(name, more) });
  const ask = (client, more) => client.messages.create({ model: 'm', max_tokens: 99, messages: asked, ...more });
  const fails = (name) => failure(() => ask(made(name)));
  return {
    answer: async (name) => (await ask(made(name))).content[0].text,
    'answer, streamed': async (name) => joined(await ask(made(name), { stream: true }), (e) => e.delta?.text),
    tools: async (name) => {
      const tools = [{ name: 'forecast', input_schema: weather }];
      const client = made(name);
      const first = await ask(client, { tools });
      const result = { type: 'tool_result', tool_use_id: first.content[0].id, content: 'sunny' };
      const messages = [...asked, { role: 'assistant', content: first.content }, { role: 'user', content: [result] }];
      return (await ask(client, { tools, messages })).content[0].text;
    },
    'token count': async (name) => (await made(name).messages.countTokens({ model: 'm', messages: asked })).input_tokens > 0,
    files: async (name) => {
      const client = made(name);
      const file = await client.beta.files.upload({ file: await toFile(Buffer.from(text), 'in.txt', { type: 'text/plain' }) });
      await client.beta.files.retrieveMetadata(file.id);
      const same = (await bytesOf(await client.beta.files.download(file.id))) === text;
      return same && (await client.beta.files.delete(file.id)).type === 'file_deleted';
    },
    batch: async (name) => {
      const client = made(name);
      const params = { model: 'm', max_tokens: 9, messages: asked };
      const { id } = await client.messages.batches.create({ requests: ['one', 'two'].map((n) => ({ custom_id: n, params })) });
      const found = [];
      for await (const line of await client.messages.batches.results(id)) found.push(line.result.message.content[0].text);
      return found;
    },
    401: fails, 429: fails, 500: fails, overloaded: fails,
    'error in a stream': (name) =>
      failure(async () => joined(await ask(made(name, { 'X-Provider-Fault': 'error-event=5' }), { stream: true }), () => '')),
    cancelled: async (name) => {
      for await (const _ of await ask(made(name, long), { stream: true, max_tokens: 9999 })) break;
      return 'left';
    },
  };
}

function gemini() {
  const { GoogleGenAI } = require('@google/genai');
  const made = (name, more) => new GoogleGenAI({ apiKey: '-', httpOptions: { baseUrl: url, headers: headersOf(name, more) } });
  const asking = (more) => ({ model: 'm', contents: 'Why?', ...more });
  const fails = (name) => failure(() => made(name).models.generateContent(asking()));
  return {
    answer: async (name) => (await made(name).models.generateContent(asking())).text,
    'answer, streamed': async (name) => joined(await made(name).models.generateContentStream(asking()), (c) => c.text),
    tools: async (name) => {
      const config = { tools: [{ functionDeclarations: [{ name: 'forecast', parametersJsonSchema: weather }] }] };
      const client = made(name);
      const call = (await client.models.generateContent(asking({ config }))).functionCalls[0];
      const contents = [
        { role: 'user', parts: [{ text: 'Why?' }] },
        { role: 'model', parts: [{ functionCall: call }] },
        { role: 'user', parts: [{ functionResponse: { name: call.name, response: { result: 'sunny' } } }] },
      ];
      return (await client.models.generateContent({ model: 'm', contents, config })).text;
    },
    embeddings: async (name) =>
      (await made(name).models.embedContent({ model: 'm', contents: ['a', 'b'] })).embeddings.map((e) => e.values.length),
    'token count': async (name) => (await made(name).models.countTokens({ model: 'm', contents: 'Why?' })).totalTokens > 0,
    files: async (name) => {
      const client = made(name);
      const file = await client.files.upload({ file: new Blob([text]), config: { mimeType: 'text/plain', displayName: 'in' } });
      await client.files.get({ name: file.name });
      const folder = mkdtempSync(join(tmpdir(), 'gateway-'));
      const downloadPath = join(folder, 'in.txt');
      await client.files.download({ file: file.name, downloadPath });
      const same = readFileSync(downloadPath, 'utf8') === text;
      rmSync(folder, { recursive: true });
      await client.files.delete({ name: file.name });
      return same;
    },
    batch: async (name) => {
      const client = made(name);
      const one = { contents: [{ role: 'user', parts: [{ text: 'Why?' }] }] };
      const { name: id } = await client.batches.create({ model: 'm', src: [one, one] });
      const batch = await client.batches.get({ name: id });
      return batch.dest.inlinedResponses.map((r) => r.response.candidates[0].content.parts[0].text);
    },
    401: fails, 429: fails, 500: fails, overloaded: fails,
    cancelled: async (name) => {
      const abort = new AbortController();
      const stream = await made(name, long).models.generateContentStream(asking({ config: { abortSignal: abort.signal } }));
      await stream.next();
      abort.abort();
      return 'left';
    },
  };
}

for (const [name, run] of Object.entries({ openai, anthropic, 'google-genai': gemini }[sdk]())) {
  const began = Date.now();
  let said;
  try {
    said = { result: await run(name) };
  } catch (error) {
    said = { error: `${error.constructor.name}: ${error.message}` };
  }
  console.log(JSON.stringify({ case: name, seconds: (Date.now() - began) / 1000, ...said }));
}
// A call that was cancelled must end by that, not by the end of this program.
process.stdin.resume().on('end', () => process.exit(0));
