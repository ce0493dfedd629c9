// The npm client `openai` against a server: argv has its address. Prints what was exercised.
import OpenAI from 'openai';

const client = new OpenAI({ baseURL: process.argv[2], apiKey: 'none', maxRetries: 0 });
const request = { model: 'chatml', messages: [{ role: 'user', content: 'Say red.' }], temperature: 0, max_tokens: 8 };
const models = [];
for await (const model of client.models.list()) models.push(model.id);
console.log('models:', models.join(' '));
const whole = await client.chat.completions.create({ ...request, logprobs: true, top_logprobs: 2 });
console.log('chat:', JSON.stringify(whole.choices[0].message.content), whole.usage.completion_tokens);
let text = '';
const stream = await client.chat.completions.create({ ...request, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? '';
if (text !== whole.choices[0].message.content) throw new Error(`${text} was streamed`);
const collected = await client.chat.completions.stream(request).finalContent();
if (collected !== text) throw new Error(`${collected} was collected`);
console.log('stream and stream helper: the same text');
const completion = await client.completions.create({ model: 'chatml', prompt: [[40, 41], [42]], max_tokens: 2 });
console.log('completions:', completion.choices.length);
const response = await client.responses.create({ model: 'chatml', input: 'Say red.', max_output_tokens: 8 });
console.log('responses:', JSON.stringify(response.output_text));
let deltas = '';
for await (const event of await client.responses.create({ model: 'chatml', input: 'Say red.', stream: true }))
  if (event.type === 'response.output_text.delta') deltas += event.delta;
console.log('responses stream:', deltas.length > 0);
for (const [wrong, kind, param] of [
  [{ temperature: 3 }, OpenAI.BadRequestError, 'temperature'],
  [{ model: 'none' }, OpenAI.NotFoundError, 'model'],
  [{ tools: [{ type: 'function', function: { name: 'f' } }] }, OpenAI.BadRequestError, 'tools'],
]) {
  const error = await client.chat.completions.create({ ...request, ...wrong }).then(() => null, (found) => found);
  if (!(error instanceof kind) || error.param !== param) throw new Error(`${JSON.stringify(wrong)}: ${error}`);
}
console.log('errors: 3 of the right class, with param');
