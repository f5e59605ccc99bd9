/** What the server says of itself in the shell: its version, and the limits that it sets. */

export const { version, limits } = JSON.parse(document.querySelector("meta[name=server]").content);

/** A regular expression of the server's as an `<input>` takes it: there a hyphen in a class needs a backslash. */
export const inputPattern = (pattern) => pattern.replaceAll("-]", "\\-]");
