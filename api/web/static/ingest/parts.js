/** The requests of an upload: a form each, with files and what is said of them. */

import { limits } from "../lib/server.js";
import { MIB, isReadable, read } from "./reading.js";

const BATCH_FILES = 200;
// Half of what the server takes: a form holds more than its files.
const BATCH_BYTES = Math.min(64 * MIB, limits.upload_bytes / 2);

/** What a selection is sent as, in the order in which it is. */
export function* partsOf(selection, { collection, metadata, skipNear }) {
  const fields = { collection, metadata: JSON.stringify(metadata), ...(skipNear && { on_near_duplicate: "skip" }) };
  for (const files of batches(selection.images)) yield new Part("files", files, fields);
  for (const archive of selection.archives) yield new Part("files", [archive], fields);
  for (const list of selection.sendable) yield new Part("table", [list], { ...fields, ...list.fields });
}

function* batches(files) {
  let batch = [];
  let bytes = 0;
  for (const one of files) {
    if (batch.length && (batch.length === BATCH_FILES || bytes + one.file.size > BATCH_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(one);
    bytes += one.file.size;
  }
  if (batch.length) yield batch;
}

/** One request: `files` are `{file, path}` of what is still to be sent, `lost` the paths of what cannot be read. */
export class Part {
  lost = [];
  #fields;
  #name;
  #form = null;

  constructor(name, files, fields) {
    Object.assign(this, { files, bytes: files.reduce((sum, { file }) => sum + file.size, 0) });
    this.#name = name;
    this.#fields = fields;
    this.#renew();
  }

  /**
   * The form, the same for all tries; null where nothing is left of it. Of several files it has what they hold now:
   * one that vanished or changed while it is sent would break off the others, too.
   */
  async form() {
    if (this.#form) return this.#form;
    const isBatch = this.files.length > 1;
    const contents = await Promise.all(
      this.files.map(async ({ file }) => (isBatch ? read(file).catch(() => null) : (await isReadable(file)) && file)),
    );
    const form = new FormData();
    for (const [name, value] of Object.entries(this.#fields)) form.append(name, value);
    for (const [at, { file, path }] of this.files.entries()) {
      if (!contents[at]) this.lost.push(path);
      else form.append(this.#name, isBatch ? new Blob([contents[at]], { type: file.type }) : file, nameOf(path));
    }
    this.files = this.files.filter((_, at) => contents[at]);
    this.#form = this.files.length ? form : null;
    return this.#form;
  }

  /** Whether a try that broke off did so for a file, which the next `form` leaves out. */
  async hasLost() {
    if (this.files.length > 1 || (await isReadable(this.files[0].file))) return false;
    this.#renew();
    return true;
  }

  /** Forgets what was read, once it is sent. */
  release() {
    this.#form = null;
  }

  // One idempotency key for all tries: a part that arrived although its answer did not makes no second job.
  #renew() {
    this.#form = null;
    this.key = randomName();
  }
}

// As the client does: a form would have the line end in percents.
const nameOf = (path) => path.replaceAll(/[\r\n]/g, "\ufffd");

export function randomName() {
  const random = crypto.getRandomValues(new Uint8Array(16)); // randomUUID is for https only
  return [...random].map((one) => one.toString(16).padStart(2, "0")).join("");
}
