/** Reading files, which may have been moved, changed or deleted since they were chosen. */

export const MIB = 2 ** 20;

/** The bytes of a file or of a part of it. Throws an Error that says why not. */
export async function read(blob) {
  try {
    return await blob.arrayBuffer();
  } catch {
    throw new Error("This file cannot be read any more: it was moved, changed or deleted. Choose it again.");
  }
}

/** A file of which nothing can be read has vanished, or is not what was chosen. */
export const isReadable = (file) => read(file.slice(0, 1)).then(() => true, () => false);
