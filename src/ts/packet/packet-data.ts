import { invalidArgType, outOfRange } from '../support/errors';
import type { PacketData } from '../support/types';

/** The most views in one call: IOV_MAX (1024) less the spill area that shows a packet's true length. */
export const MAX_VIEWS = 1023;

/**
 * What sendmsg, recvmsg and send were given, as the bytes that it stands for.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE` for anything but views, and for a view whose memory is detached;
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
  for (let index = 0; index < data.length; index++) views.push(bytesOf(`${name}[${index}]`, data[index]));
  return views;
}

function bytesOf(name: string, view: unknown): Uint8Array {
  if (!ArrayBuffer.isView(view)) throw invalidArgType(name, 'a Buffer, TypedArray or DataView', view);
  // First the buffer: a DataView of detached memory has no byteLength to ask for.
  if (isDetached(view.buffer)) {
    throw invalidArgType(name, 'a view of memory that was not transferred away', view);
  }
  return view instanceof Uint8Array ? view : new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
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
