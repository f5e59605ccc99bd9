/** A list of pictures to fetch, chosen or typed, and what the server says of it before a job is made. */

import { ApiError, isRefusal } from "../lib/answers.js";
import { hasKey, needsKey } from "../lib/api_key.js";
import { UNAUTHORIZED, api } from "../lib/requests.js";
import { MIB, read } from "./reading.js";

const HEAD_BYTES = MIB; // what the server is shown of a table of text
const MAX_PARQUET_BYTES = 32 * MIB; // it is shown whole, or not at all: it is read from its end
const ROWS = 20;
const LONGEST_SECONDS = 60;
const NO_CHOICES = Object.freeze({ skip_columns: [], number_columns: [] });

/**
 * `file` is what is sent, `path` what it is called; without a file it is `text`, which is typed. `choices` are what
 * the visitor says of its columns: `url_column`, `key_column`, `skip_columns` and `number_columns`. `preview` is the server's answer,
 * `error` why there is none, `names` are those of the columns; until it was read it `isReading`. Fires `change`.
 */
export class List extends EventTarget {
  #abort = new AbortController();
  #file;
  #head = "";

  constructor(file, path) {
    super();
    this.#file = file;
    Object.assign(this, { path, isTyped: !file, text: "", choices: NO_CHOICES, names: [], preview: null, error: null, isReading: true });
  }

  /** Of a long text it takes a while to make one, so it is made when it is sent. */
  get file() {
    return (this.#file ??= new File([this.text], this.path, { type: "text/plain" }));
  }

  get size() {
    return this.isTyped ? this.text.length : this.file.size;
  }

  /** Whether it may be sent: also where the server did not say anything, which it then says of the upload. */
  get isSendable() {
    return !this.isReading && (!this.error || this.error.isPassing || isRefusal(this.error));
  }

  /** Its rows, as far as they are known, and whether there may be more. */
  get rows() {
    return { count: this.preview?.total ?? 0, isAll: this.preview?.partial === false };
  }

  /** Its columns, as far as they are known; a list of URLs has none. */
  get columns() {
    return this.preview && this.preview.kind !== "list" ? this.preview.columns : [];
  }

  /** The fields of a form that go with it. */
  get fields() {
    const quoted = (name) => `"${name.replaceAll('"', '""')}"`;
    const all = Object.entries(this.choices).map(([option, said]) => [option, Array.isArray(said) ? said.map(quoted).join(",") : said]);
    return Object.fromEntries(all.filter(([, value]) => value));
  }

  /** Takes a typed text in place of the last; what was said of columns holds while the line of their names does. */
  type(text) {
    const [head] = text.trimStart().split(/[\r\n]/, 1);
    if (head !== this.#head) Object.assign(this, { choices: NO_CHOICES, names: [] });
    this.#head = head;
    this.text = text;
    this.#file = null;
    this.stop();
    this.isReading = true;
  }

  /** What its columns are said to be, from now on. */
  choose(choices) {
    this.choices = { ...this.choices, ...choices };
    return this.read();
  }

  /** Asks the server what is in it. A later call takes the place of one that goes on. */
  async read() {
    this.stop();
    const { signal } = (this.#abort = new AbortController());
    this.#become({ isReading: true });
    try {
      const preview = await this.#ask(AbortSignal.any([signal, AbortSignal.timeout(1000 * LONGEST_SECONDS)]));
      if (signal.aborted) return;
      this.preview = preview;
      this.#become({ isReading: false, names: this.columns.map(({ name }) => name), error: null });
    } catch (error) {
      if (!signal.aborted) this.refuse(error);
    }
  }

  stop() {
    this.#abort.abort();
    this.isReading = false;
  }

  /** Notes that the server does not take it. */
  refuse(error) {
    this.#become({ isReading: false, preview: null, names: error.columns ?? this.names, error });
  }

  async #ask(signal) {
    const file = this.isTyped ? new Blob([this.text.slice(0, HEAD_BYTES + 1)], { type: "text/plain" }) : this.file;
    // Who has declined to give a key is asked again when it is sent, not with each letter that is typed.
    if (needsKey() && !hasKey()) throw new ApiError(401, { code: "unauthorized", detail: UNAUTHORIZED });
    const isParquet = new TextDecoder().decode(await read(file.slice(0, 4))) === "PAR1";
    if (isParquet && file.size > MAX_PARQUET_BYTES) return null;
    const isPart = !isParquet && file.size > HEAD_BYTES;
    const body = new FormData();
    const fields = { preview: ROWS, ...(isPart && { partial: true }), ...this.fields };
    for (const [name, value] of Object.entries(fields)) body.append(name, value);
    const head = await read(isPart ? file.slice(0, HEAD_BYTES) : file);
    body.append("table", new Blob([head], { type: file.type }), this.path);
    return api("/v1/jobs", { method: "POST", body, signal, isOptional: true, needs: ["kind", "columns", "rows", "notes", "total"] });
  }

  #become(state) {
    Object.assign(this, state);
    this.dispatchEvent(new Event("change"));
  }
}
