/**
 * The three ways in which an answer can be other than yes. Must not know who raises them.
 */

/** The bundle is refuted; the message is the reason. */
export class Rejected extends Error {}

/** A file from outside is not acceptable: nothing could be decided. */
export class InputError extends Error {
  constructor(
    message: string,
    readonly hint = '',
  ) {
    super(message);
  }
}

/** A client id has a character that this browser's Unicode does not know: elsewhere it may be a good one. */
export class UnknownCharacter extends InputError {}

/** This page does not know the verification key that the statement needs: neither valid nor invalid. */
export class KeyUnknown extends InputError {}
