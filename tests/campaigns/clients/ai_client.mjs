// Vercel's `ai` with @ai-sdk/openai-compatible against a server: argv has its address. Prints what was exercised.
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, streamText } from 'ai';

const provider = createOpenAICompatible({ name: 'tunesmith', baseURL: process.argv[2], apiKey: 'none', includeUsage: true });
const options = { model: provider('chatml'), prompt: 'Say red.', temperature: 0, maxOutputTokens: 8, maxRetries: 0 };
const whole = await generateText({ ...options, seed: 1, stopSequences: ['zzz'] });
console.log('generateText:', JSON.stringify(whole.text), whole.usage.outputTokens, whole.finishReason);
const stream = streamText(options);
let text = '';
for await (const part of stream.textStream) text += part;
if (text !== whole.text) throw new Error(`${text} was streamed`);
console.log('streamText: the same text', (await stream.usage).outputTokens);
const turns = [{ role: 'user', content: 'Say red.' }, { role: 'assistant', content: 'red' }, { role: 'user', content: 'Say big.' }];
console.log('messages:', JSON.stringify((await generateText({ ...options, prompt: undefined, messages: turns })).text));
const error = await generateText({ ...options, model: provider('none') }).then(() => null, (found) => found);
if (error?.statusCode !== 404) throw new Error(`${error}`);
console.log('error:', error.statusCode);
