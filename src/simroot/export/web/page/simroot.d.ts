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
  /** Of pictures that may have any number of classes: the probabilities, sigmoids then, from which on they have them. */
  thresholds?: number[];
  data?: string;
  cost?: { parameters: number; macs: number; flops: number };
  measured: { images: number; agreement: number; accuracy?: number; mean_average_precision?: number };
  bytes: number;
}

export interface Network {
  readonly card: Card;
  /** Names, in the order of the scores. */
  readonly classes: string[];
  /** The most probable classes and the time that it took: 5 unless told otherwise, with thresholds all. */
  classify(picture: Picture, top?: number): {
    best: { name: string; probability: number; threshold?: number; present?: boolean }[];
    milliseconds: number;
  };
  /** The network's own numbers, before the softmax or the sigmoid. */
  scores(picture: Picture): Float32Array;
}

/** From a folder, by default that of simroot.js. */
export function load(folder?: string | URL): Promise<Network>;
