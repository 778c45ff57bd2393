// Written by simroot. Types of simroot.js.

/** Raw pixels, or what a canvas draws, once it is loaded. */
export type Picture =
  ImageData | HTMLImageElement | HTMLCanvasElement | OffscreenCanvas | ImageBitmap | HTMLVideoElement;

/** The contents of model.wasm.json, and the bytes of model.wasm. */
export interface Card {
  model: string;
  precision: "float32" | "int8";
  input_size: [channels: number, height: number, width: number];
  classes: string[] | null;
  data?: string;
  cost?: { parameters: number; macs: number; flops: number };
  measured: { images: number; agreement: number; accuracy?: number };
  bytes: number;
}

export interface Network {
  readonly card: Card;
  /** Names, in the order of the scores. */
  readonly classes: string[];
  /** The most probable classes, 5 unless told otherwise, and the time that it took. */
  classify(picture: Picture, top?: number): {
    best: { name: string; probability: number }[];
    milliseconds: number;
  };
  /** The network's own numbers, before the softmax. */
  scores(picture: Picture): Float32Array;
}

/** From a folder, by default that of simroot.js. */
export function load(folder?: string | URL): Promise<Network>;
