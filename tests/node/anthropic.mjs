// The Anthropic JavaScript SDK, unchanged, in every way that programs use it. Prints one JSON line for each: {test, ...what came}.
import Anthropic from '@anthropic-ai/sdk';

const { BASE_URL, API_KEY, REAL_MODEL, PATIENCE } = process.env;
const client = new Anthropic({ baseURL: BASE_URL, apiKey: API_KEY, maxRetries: 0, timeout: 60000 * Number(PATIENCE) });
const say = (test, what) => console.log(JSON.stringify({ test, ...what }));
const ask = (content) => [{ role: 'user', content }];
const tools = [{ name: 'add', description: 'adds', input_schema: { type: 'object', properties: { a: { type: 'integer' }, b: { type: 'integer' } } } }];

const whole = await client.messages.create({ model: 'plain', max_tokens: 100, messages: ask('hello') });
say('whole', { text: whole.content[0].text, reason: whole.stop_reason, usage: [whole.usage.input_tokens, whole.usage.output_tokens] });

const events = [];
for await (const event of await client.messages.create({ model: 'plain', max_tokens: 100, messages: ask('hello'), stream: true })) events.push(event.type);
say('stream', { events });

const helper = client.messages.stream({ model: 'tooling', max_tokens: 2000, messages: ask('1 and 2?'), tools, thinking: { type: 'adaptive' } });
const called = await helper.finalMessage();
say('tools_stream', { reason: called.stop_reason, blocks: called.content.map((b) => b.type), inputs: called.content.filter((b) => b.type === 'tool_use').map((b) => [b.id, b.name, b.input]) });

const results = called.content.filter((b) => b.type === 'tool_use').map((b) => ({ type: 'tool_result', tool_use_id: b.id, content: String(b.input.a + b.input.b) }));
const second = await client.messages.create({
  model: 'tooling', max_tokens: 2000, tools,
  messages: [...ask('1 and 2?'), { role: 'assistant', content: called.content }, { role: 'user', content: results }],
});
say('tools_whole', { text: second.content.filter((b) => b.type === 'text').map((b) => b.text).join('') });

const shaped = await client.messages.create({
  model: REAL_MODEL, max_tokens: 60, messages: ask('Name a city and its country.'),
  output_config: { format: { type: 'json_schema', schema: { type: 'object', properties: { city: { type: 'string', maxLength: 12 } }, required: ['city'], additionalProperties: false } } },
});
say('structured', { keys: Object.keys(JSON.parse(shaped.content[0].text)) });

say('count', { tokens: (await client.messages.countTokens({ model: REAL_MODEL, messages: ask('hello') })).input_tokens });

const listed = [];
for await (const model of client.models.list()) listed.push(model.id);
say('models', { listed, one: (await client.models.retrieve('plain')).display_name });

const stream = client.messages.stream({ model: 'slow', max_tokens: 20000, messages: ask('hello') });
let seen = 0;
stream.on('text', () => {
  if (++seen === 5) stream.abort();
});
const aborted = await stream.finalMessage().then(() => null, (error) => error);
say('abort', { seen, kind: aborted?.constructor?.name });

const failures = [];
for (const [name, run] of [
  ['timeout', () => client.messages.create({ model: 'slow', max_tokens: 20000, messages: ask('hello') }, { timeout: 400 })],
  ['key', () => new Anthropic({ baseURL: BASE_URL, apiKey: 'sk-db-wrong', maxRetries: 0 }).messages.create({ model: 'plain', max_tokens: 1, messages: ask('x') })],
  ['model', () => client.messages.create({ model: 'no-such-model', max_tokens: 1, messages: ask('x') })],
  ['messages', () => client.messages.create({ model: 'plain', max_tokens: 1, messages: [] })],
]) {
  const error = await run().then(() => null, (caught) => caught);
  failures.push([name, error?.constructor?.name, error?.status ?? null, error?.error?.error?.type ?? null, Boolean(error?.requestID) || name === 'timeout']);
}
say('errors', { failures });

const retried = await client.messages.create({ model: 'busy', max_tokens: 100, messages: ask('hello') }, { maxRetries: 4 });
say('retry', { text: retried.content[0].text });
