// The OpenAI JavaScript SDK, unchanged, in every way that programs use it. Prints one JSON line for each: {test, ...what came}.
import OpenAI from 'openai';

const { BASE_URL, API_KEY, REAL_MODEL, PATIENCE } = process.env;
const client = new OpenAI({ baseURL: BASE_URL + '/v1', apiKey: API_KEY, maxRetries: 0, timeout: 60000 * Number(PATIENCE) });
const say = (test, what) => console.log(JSON.stringify({ test, ...what }));
const ask = (content) => [{ role: 'user', content }];
const tools = [{ type: 'function', function: { name: 'add', description: 'adds', parameters: { type: 'object', properties: { a: { type: 'integer' }, b: { type: 'integer' } } } } }];

const whole = await client.chat.completions.create({ model: 'plain', messages: ask('hello') });
say('whole', { text: whole.choices[0].message.content, reason: whole.choices[0].finish_reason, usage: whole.usage });

let text = '';
let last;
for await (const chunk of await client.chat.completions.create({ model: 'plain', messages: ask('hello'), stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? '';
  last = chunk;
}
say('stream', { text, usage: last.usage });

const helper = client.chat.completions.stream({ model: 'tooling', messages: ask('1 and 2?'), tools });
const called = (await helper.finalChatCompletion()).choices[0];
say('tools_stream', { reason: called.finish_reason, calls: called.message.tool_calls.map((c) => [c.id, c.function.name, JSON.parse(c.function.arguments)]) });

const first = await client.chat.completions.create({ model: 'tooling', messages: ask('1 and 2?'), tools });
const results = first.choices[0].message.tool_calls.map((c) => {
  const { a, b } = JSON.parse(c.function.arguments);
  return { role: 'tool', tool_call_id: c.id, content: String(a + b) };
});
const second = await client.chat.completions.create({ model: 'tooling', tools, messages: [...ask('1 and 2?'), first.choices[0].message, ...results] });
say('tools_whole', { text: second.choices[0].message.content });

const shaped = await client.chat.completions.create({
  model: REAL_MODEL, messages: ask('Name a city and its country.'), max_tokens: 60, temperature: 0,
  response_format: { type: 'json_schema', json_schema: { name: 'city', strict: true, schema: { type: 'object', properties: { city: { type: 'string', maxLength: 12 }, country: { type: 'string', maxLength: 12 } }, required: ['city', 'country'], additionalProperties: false } } },
});
say('structured', { keys: Object.keys(JSON.parse(shaped.choices[0].message.content)).sort() });

const made = await client.responses.create({ model: 'plain', input: 'hello' });
let streamed = '';
for await (const event of await client.responses.create({ model: 'plain', input: 'hello', stream: true })) {
  if (event.type === 'response.output_text.delta') streamed += event.delta;
}
say('responses', { text: made.output_text, streamed, status: made.status });

const completed = await client.completions.create({ model: 'plain', prompt: 'hello' });
say('completions', { text: completed.choices[0].text });

const vectors = await client.embeddings.create({ model: REAL_MODEL, input: ['one', 'two'] });
say('embeddings', { sizes: vectors.data.map((one) => one.embedding.length) });

const listed = [];
for await (const model of client.models.list()) listed.push(model.id);
say('models', { listed, one: (await client.models.retrieve('plain')).id });

const stream = await client.chat.completions.create({ model: 'slow', messages: ask('hello'), stream: true });
let seen = 0;
for await (const _ of stream) {
  if (++seen === 5) stream.controller.abort();
}
say('abort', { seen });

const failures = [];
for (const [name, run] of [
  ['timeout', () => client.chat.completions.create({ model: 'slow', messages: ask('hello') }, { timeout: 400 })],
  ['key', () => new OpenAI({ baseURL: BASE_URL + '/v1', apiKey: 'sk-db-wrong', maxRetries: 0 }).chat.completions.create({ model: 'plain', messages: ask('x') })],
  ['model', () => client.chat.completions.create({ model: 'no-such-model', messages: ask('x') })],
  ['messages', () => client.chat.completions.create({ model: 'plain', messages: [] })],
]) {
  const error = await run().then(() => null, (caught) => caught);
  failures.push([name, error?.constructor?.name, error?.status ?? null, error?.code ?? null, error?.param ?? null]);
}
say('errors', { failures });

const retried = await client.chat.completions.create({ model: 'busy', messages: ask('hello') }, { maxRetries: 4 });
say('retry', { text: retried.choices[0].message.content });
