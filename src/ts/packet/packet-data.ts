import { types } from 'node:util';
import { invalidArgType, outOfRange } from '../support/errors';
import type { PacketData } from '../support/types';

/** The most views in one call: IOV_MAX (1024) less the spill area that shows a packet's true length. */
export const MAX_VIEWS = 1023;

/**
 * What sendmsg, recvmsg and send were given, as the bytes that it stands for.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE` for anything but views, and for a view whose memory is detached or shorter than it was;
 * RangeError `ERR_OUT_OF_RANGE` for more than `most` views.
 */
export function packetViews(name: string, data: PacketData, most = MAX_VIEWS): readonly Uint8Array[] {
  if (ArrayBuffer.isView(data)) return [bytesOf(name, data)];
  if (!Array.isArray(data)) {
    throw invalidArgType(name, 'a Buffer, TypedArray or DataView, or an array of them', data);
  }
  if (data.length > most) throw outOfRange(`${name}.length`, `at most ${most} views`, data.length);
  // Into an array that is ours: one of another class could run code while native reads it.
  const views: Uint8Array[] = [];
  // First all elements, then their bytes: reading one may run code that takes away the memory of another.
  const elements: unknown[] = [];
  const { length } = data;
  for (let index = 0; index < length; index++) elements.push(data[index]);
  for (const [index, element] of elements.entries()) views.push(bytesOf(`${name}[${index}]`, element));
  return views;
}

const typedArrayPrototype = Object.getPrototypeOf(Uint8Array.prototype) as Uint8Array;
const getter = <T>(prototype: object, key: string) =>
  Object.getOwnPropertyDescriptor(prototype, key)?.get as (this: unknown) => T;
const byteLengthOfArray = getter<number>(typedArrayPrototype, 'byteLength');
const byteOffsetOfArray = getter<number>(typedArrayPrototype, 'byteOffset');
const byteLengthOfDataView = getter<number>(DataView.prototype, 'byteLength');
const byteOffsetOfDataView = getter<number>(DataView.prototype, 'byteOffset');
const bufferOfArray = getter<ArrayBufferLike>(typedArrayPrototype, 'buffer');
const bufferOfDataView = getter<ArrayBufferLike>(DataView.prototype, 'buffer');

/** The bytes of a view as they really are, whatever a property of its own says; 0 beyond a buffer that has shrunk. */
export function byteLengthOf(view: Uint8Array): number {
  return byteLengthOfArray.call(view);
}

function bytesOf(name: string, view: unknown): Uint8Array {
  if (!ArrayBuffer.isView(view)) throw invalidArgType(name, 'a Buffer, TypedArray or DataView', view);
  const isDataView = types.isDataView(view);
  // First the buffer: a DataView of detached memory has no byteLength to ask for.
  const buffer = isDataView ? bufferOfDataView.call(view) : bufferOfArray.call(view);
  if (isDetached(buffer)) {
    throw invalidArgType(name, 'a view of memory that was not transferred away', view);
  }
  if (!isDataView && byteLengthOfArray.call(view) === 0 && !liesWithin(view as Uint8Array)) {
    throw invalidArgType(name, 'a view that lies within its buffer', view);
  }
  if (types.isUint8Array(view)) return view;
  if (!isDataView) return new Uint8Array(buffer, byteOffsetOfArray.call(view), byteLengthOfArray.call(view));
  try {
    return new Uint8Array(buffer, byteOffsetOfDataView.call(view), byteLengthOfDataView.call(view));
  } catch {
    throw invalidArgType(name, 'a view that lies within its buffer', view);
  }
}

/** Whether a typed array of no bytes is one, and not one whose resizable buffer has shrunk below it: nothing but a copy tells. */
function liesWithin(view: Uint8Array): boolean {
  try {
    new Uint8Array(view);
    return true;
  } catch {
    return false;
  }
}

function isDetached(buffer: ArrayBufferLike): boolean {
  if (buffer.byteLength !== 0) return false;
  try {
    new Uint8Array(buffer); // the one thing that fails on detached memory in every supported Node
    return false;
  } catch {
    return true;
  }
}
