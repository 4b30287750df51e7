/**
 * What the page shows. Must not decide anything. Whatever comes from a bundle is set as text, never as markup.
 */

import { hexOf } from './field';
import { accepted } from './statement';
import { terms } from './terms';
import { type Verified } from './verify';

type Child = Node | string;

/** An element with attributes and children; strings become text. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function byId(id: string): HTMLElement {
  return document.getElementById(id)!;
}

/** The kinds of answers, each with its word. */
export const ANSWERS = { valid: 'VERIFIED', invalid: 'INVALID', undecided: 'NOT DECIDED' } as const;
export type Answer = keyof typeof ANSWERS;

/** Show an answer in words, with what to do next, and what stands behind it. */
export function showAnswer(answer: Answer, text: string, hint = '', ...more: Child[]): void {
  const heading = element('h2', { id: 'answer', tabindex: '-1' }, ANSWERS[answer]);
  const box = element('div', { class: `answer ${answer}` }, heading, element('p', { id: 'reason' }, text));
  if (hint) box.append(element('p', { class: 'hint' }, hint));
  byId('result').replaceChildren(box, ...more);
  heading.focus();
}

/** Show how far a verification has come. */
export function showProgress(what: string, done: number, total: number): void {
  const bar = element('progress', { max: `${total}`, value: `${done}`, 'aria-label': `${what} checked` });
  const words = total > 1 ? `Checking ${what}: ${done} of ${total}` : `Checking ${what}`;
  byId('result').replaceChildren(element('div', { class: 'answer', id: 'progress', role: 'status' }, element('p', {}, words), bar));
}

/** Everything there is to say of a valid proof. */
export function details(found: Verified): Child[] {
  return [compared(found), clients(found), caution(), parameters(found), fingerprints(found)];
}

function compared(found: Verified): HTMLElement {
  const rows: [boolean, string, string][] = [
    [
      found.commitmentsCompared,
      'The commitments are those that the clients published.',
      'The commitments were not compared with an outside source: drop those that the clients published.' +
        (found.commitmentsBy === 'server'
          ? ' By the bundle’s own word they are the server’s, not the clients’.'
          : ''),
    ],
    [
      found.roundCompared,
      'The parameters are those of the published round.toml.',
      'The parameters were not compared with an outside source: drop the round.toml that was published.',
    ],
    [
      found.aggregateCompared,
      'The values in the aggregate’s file are the mean of the accepted clients’ committed values. Which tensors they are is the sender’s word, unless the round’s subject or your own model says so.',
      'No aggregate was compared: drop the aggregate.npz you were given to check the model update you were sent.',
    ],
  ];
  const list = element('ul', { class: 'compared', id: 'compared' });
  for (const [done, yes, no] of rows) {
    const mark = element('span', { class: 'mark', 'aria-hidden': 'true' }, done ? '✓' : '○');
    list.append(element('li', { class: done ? 'done' : 'open' }, mark, done ? yes : no));
  }
  const nothing = !found.commitmentsCompared && !found.roundCompared;
  const section = element('section', {}, element('h3', {}, 'What it was compared with'), list);
  if (nothing) {
    section.append(
      element(
        'p',
        {},
        'Nothing was compared with an outside source: this says that the bundle agrees with itself.',
      ),
    );
  }
  return section;
}

function clients(found: Verified): HTMLElement {
  const { round, verdict } = found;
  const summed = new Set(accepted(verdict, round.params));
  const head = element('tr', {}, ...['client', 'flagged', 'selected', 'accepted'].map((name) => element('th', { scope: 'col' }, name)));
  const body = element('tbody');
  for (const [i, client] of round.roster.entries()) {
    const cell = (yes: boolean, word: string) => element('td', yes ? { class: word } : {}, yes ? word : '–');
    body.append(
      element(
        'tr',
        {},
        element('th', { scope: 'row' }, element('bdi', {}, client)),
        cell(verdict.flagged.includes(i), 'flagged'),
        cell(verdict.selected.includes(i), 'selected'),
        cell(summed.has(i), 'accepted'),
      ),
    );
  }
  const table = element('table', { id: 'clients' }, element('thead', {}, head), body);
  return element('section', {}, element('h3', {}, 'Clients'), element('div', { class: 'wide' }, table));
}

function caution(): HTMLElement {
  return element(
    'p',
    { class: 'soft' },
    'A client that is flagged is far from the others under this rule, with these thresholds. ' +
      'That is not proof of malicious intent.',
  );
}

function parameters(found: Verified): HTMLElement {
  const list = element('dl', { class: 'terms', id: 'parameters' });
  for (const [k, [name, value, meaning]] of terms(found.round).entries()) {
    const id = `meaning-${k}`;
    const note = element('p', { id, class: 'meaning', hidden: '' }, meaning);
    const button = element(
      'button',
      { type: 'button', class: 'term', title: meaning, 'aria-describedby': id, 'aria-expanded': 'false' },
      name,
    );
    button.addEventListener('click', () => {
      note.hidden = !note.hidden;
      button.setAttribute('aria-expanded', String(!note.hidden));
    });
    const long = value.length > 20 ? { class: 'long' } : {};
    list.append(element('div', long, element('dt', {}, button), element('dd', {}, element('span', {}, value), note)));
  }
  const hint = element('p', { class: 'soft' }, 'Each name explains itself when you point at it or press it.');
  return element('section', {}, element('h3', {}, 'Parameters'), hint, list);
}

function fingerprints(found: Verified): HTMLElement {
  const form = found.form === 'round' ? 'one circuit' : `${found.round.params.chunks} shards and a verdict`;
  return element(
    'section',
    {},
    element('h3', {}, 'Aggregate'),
    element('p', {}, `Proved in ${form}. The sum of the accepted clients’ values is committed to by A = `, element('code', {}, hexOf(found.aggregate)), '.'),
  );
}
