// Written by simroot. Runs the network of model.wasm; simroot.d.ts says how to use it.

const LARGEST = 4096 * 4096; // pixels: larger pictures are drawn smaller first

export async function load(folder = new URL(".", import.meta.url)) {
  const read = async (name) => {
    const answer = await fetch(new URL(name, folder));
    if (!answer.ok) throw new Error(`${name} cannot be loaded: ${answer.status}`);
    return answer;
  };
  const [card, code] = await Promise.all([
    read("model.wasm.json").then((answer) => answer.json()),
    read("model.wasm").then((answer) => answer.arrayBuffer()),
  ]);
  const { instance } = await WebAssembly.instantiate(code);
  return new Network(instance.exports, { ...card, bytes: code.byteLength });
}

class Network {
  #wasm;

  constructor(wasm, card) {
    this.#wasm = wasm;
    this.card = card;
    this.classes = card.classes ?? Array.from({ length: wasm.classes() }, (_, index) => `${index}`);
  }

  classify(picture, top = this.card.thresholds ? Infinity : 5) {
    const start = performance.now();
    const scores = [...this.scores(picture)];
    const milliseconds = performance.now() - start;
    const { thresholds } = this.card;
    const best = (thresholds ? scores.map(sigmoid) : softmax(scores)).map((probability, index) => ({
      name: this.classes[index], probability,
      ...(thresholds && { threshold: thresholds[index], present: probability >= thresholds[index] }),
    }));
    return { best: best.sort((one, other) => other.probability - one.probability).slice(0, top), milliseconds };
  }

  scores(picture) {
    const wasm = this.#wasm;
    const { data, width, height } = picture.data ? picture : drawn(picture);
    if (data.BYTES_PER_ELEMENT !== 1 || data.length !== 4 * width * height) {
      throw new TypeError("expected red, green, blue and alpha of 8 bits for each pixel");
    }
    const start = wasm.picture(width, height);
    if (!start) throw new RangeError(`no room for a picture of ${width} × ${height}`);
    new Uint8Array(wasm.memory.buffer).set(data, start);
    wasm.prepare(width, height);
    wasm.classify();
    return new Float32Array(wasm.memory.buffer, wasm.scores(), wasm.classes()).slice();
  }
}

const sigmoid = (score) => 1 / (1 + Math.exp(-score));

function softmax(scores) {
  const most = Math.max(...scores);
  const shares = scores.map((score) => Math.exp(score - most));
  const sum = shares.reduce((one, other) => one + other);
  return shares.map((share) => share / sum);
}

function drawn(picture) {
  const wide = picture.naturalWidth ?? picture.videoWidth ?? picture.width;
  const high = picture.naturalHeight ?? picture.videoHeight ?? picture.height;
  if (!(wide && high)) throw new TypeError("the picture is not loaded, or has no pixels");
  const scale = Math.min(1, Math.sqrt(LARGEST / (wide * high)));
  const [width, height] = [wide, high].map((side) => Math.max(1, Math.floor(side * scale)));
  const canvas = globalThis.document?.createElement("canvas") ?? new OffscreenCanvas(1, 1);
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}
