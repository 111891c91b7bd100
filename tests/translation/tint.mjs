// Compiles shaders with Tint, by way of Dawn: standard input is a JSON array of { wgsl, entry }, standard output one of
// messages, empty where Tint has nothing to say. The argument is the folder with the package `webgpu`.

import { createRequire } from 'node:module';
import { text } from 'node:stream/consumers';

const { create, globals } = createRequire(`${process.argv[2]}/`)('webgpu');
Object.assign(globalThis, globals);

// The adapter that computes nothing has all features and wants no driver. Dawn ends with the last reference to it, whatever
// still works.
globalThis.dawn = create(['backend=null']);
const adapter = await dawn.requestAdapter();
const device = await adapter.requestDevice({ requiredFeatures: ['shader-f16', 'subgroups'] });

// The adapter has WebGPU's default limits; a workgroup that needs more memory is no matter of the text.
const MEMORY = /workgroup storage/;

async function compile({ wgsl, entry }) {
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code: wgsl });
  const { messages } = await module.getCompilationInfo();
  device.createComputePipeline({ layout: 'auto', compute: { module, entryPoint: entry } });
  const error = await device.popErrorScope();
  if (messages.length > 0) {
    return messages.map(({ lineNum, linePos, message }) => `${lineNum}:${linePos}: ${message}`).join('\n');
  }
  return error && !MEMORY.test(error.message) ? error.message : '';
}

const verdicts = [];
for (const shader of JSON.parse(await text(process.stdin))) {
  verdicts.push(await compile(shader));
}
// Dawn keeps the process busy.
process.stdout.write(JSON.stringify(verdicts), () => process.exit(0));
