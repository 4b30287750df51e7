/**
 * The page: takes what is dropped or chosen, verifies it, shows the answer. Must not decide anything itself.
 */

import { Bb } from './bb';
import { type Dropped, fileWith, folderOf, folderWith, ofFiles, ofTransfer, unzipped } from './drop';
import { InputError } from './errors';
import { hex, sha256 } from './field';
import { type Folder } from './folder';
import { MANIFEST } from './form';
import { type Made } from './keys';
import { type Outside, verify } from './verify';
import { byId, details, showAnswer, showProgress } from './view';

// Before anything changes the document: the file is written as browsers write documents, so this is the file.
const source = `<!doctype html>${document.documentElement.outerHTML}`;
const made = JSON.parse(byId('made').textContent!) as Made;
const tools = { bb: new Bb(), made };
const outside: Outside = {};
let bundle: Folder | undefined;
let run = 0;

/** Let the browser paint and react. */
function breathe(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

/** Verify what is there and show the answer, unless something newer has been dropped meanwhile. */
async function answer(): Promise<void> {
  const mine = ++run;
  showChosen();
  if (!bundle) {
    document.body.dataset['state'] = 'ready';
    return;
  }
  document.body.dataset['state'] = 'busy';
  let painted = 0;
  const progress = async (what: string, done: number, total: number) => {
    if (performance.now() - painted < 50) return;
    if (mine === run) showProgress(what, done, total);
    await breathe();
    painted = performance.now();
  };
  try {
    const found = await verify(bundle, tools, outside, progress);
    if (mine !== run) return;
    if (found.ok) showAnswer('valid', found.statement, '', ...details(found));
    else showAnswer('invalid', found.reason);
  } catch (error) {
    if (mine !== run) return;
    undecided(error);
  }
  document.body.dataset['state'] = 'done';
}

function undecided(error: unknown): void {
  if (error instanceof InputError) {
    showAnswer('undecided', error.message, error.hint);
  } else {
    showAnswer('undecided', `the browser could not go on: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** The places for what is dropped: how each takes its part, and what it holds. */
const PLACES = {
  bundle: {
    take(dropped: Dropped) {
      const found = folderWith(dropped, MANIFEST);
      if (!found) throw new InputError(`expected a bundle, which has a ${MANIFEST}, found none`);
      bundle = found;
      const aside = dropped.size - found.entries.size;
      byId('aside').textContent = aside
        ? `${aside} other file${aside > 1 ? 's' : ''} that came with it ${aside > 1 ? 'were' : 'was'} left aside: what comes from the same hand is nothing to compare with.`
        : '';
    },
    name: () => bundle?.name,
    drop: () => (bundle = undefined),
  },
  commitments: {
    take(dropped: Dropped) {
      outside.commitments = folderOf(dropped, '.json');
      if (!outside.commitments) throw new InputError('expected the clients’ commitments (.json), found none');
    },
    name: () => outside.commitments?.name,
    drop: () => (outside.commitments = undefined),
  },
  round: {
    take(dropped: Dropped) {
      outside.roundFile = fileWith(dropped, '.toml');
      if (!outside.roundFile) throw new InputError('expected the published round.toml, found none');
    },
    name: () => outside.roundFile?.name,
    drop: () => (outside.roundFile = undefined),
  },
  aggregate: {
    take(dropped: Dropped) {
      outside.aggregate = fileWith(dropped, '.npz');
      if (!outside.aggregate) throw new InputError('expected an aggregate.npz, found none');
    },
    name: () => outside.aggregate?.name,
    drop: () => (outside.aggregate = undefined),
  },
} as const;
type Place = keyof typeof PLACES;

/** Where a drop on the page belongs: a bundle is known by its manifest, the rest by suffix. */
function placesOf(dropped: Dropped): Place[] {
  const paths = [...dropped.keys()];
  if (paths.some((path) => path === MANIFEST || path.endsWith(`/${MANIFEST}`))) return ['bundle'];
  const suffixes: [Place, string][] = [
    ['commitments', '.json'],
    ['round', '.toml'],
    ['aggregate', '.npz'],
  ];
  const places = suffixes.filter(([, suffix]) => paths.some((path) => path.endsWith(suffix))).map(([place]) => place);
  return places.length ? places : ['bundle'];
}

/** Take what was dropped, on a place or anywhere, and verify. */
async function take(files: Promise<Dropped> | Dropped, place?: Place): Promise<void> {
  document.body.dataset['state'] = 'busy';
  try {
    const dropped = await unzipped(await files);
    for (const each of place ? [place] : placesOf(dropped)) PLACES[each].take(dropped);
    await answer();
  } catch (error) {
    run++;
    showChosen();
    undecided(error);
    document.body.dataset['state'] = 'done';
  }
}

function showChosen(): void {
  for (const [place, { name }] of Object.entries(PLACES)) {
    const chosen = name();
    byId(`chosen-${place}`).textContent = chosen ?? 'nothing yet';
    byId(place).classList.toggle('filled', chosen !== undefined);
    byId(`remove-${place}`).hidden = chosen === undefined;
  }
}

function listen(): void {
  for (const place of Object.keys(PLACES) as Place[]) {
    for (const input of byId(place).querySelectorAll('input')) {
      input.addEventListener('change', () => {
        const files = [...(input.files ?? [])];
        input.value = '';
        if (files.length) void take(ofFiles(files), place);
      });
    }
    for (const button of byId(place).querySelectorAll<HTMLButtonElement>('button[data-input]')) {
      button.addEventListener('click', () => byId(button.dataset['input']!).click());
    }
    byId(`remove-${place}`).addEventListener('click', () => {
      PLACES[place].drop();
      if (!bundle) byId('result').replaceChildren();
      byId('aside').textContent = '';
      void answer();
    });
  }
  const over = (event: DragEvent, place: Element | null) => {
    event.preventDefault();
    for (const each of document.querySelectorAll('.place')) each.classList.toggle('over', each === place);
  };
  const placeAt = (event: DragEvent) => (event.target instanceof Element ? event.target.closest('.place') : null);
  document.addEventListener('dragover', (event) => over(event, placeAt(event) ?? byId('bundle')));
  document.addEventListener('dragleave', (event) => over(event, null));
  document.addEventListener('drop', (event) => {
    over(event, null);
    if (event.dataTransfer) void take(ofTransfer(event.dataTransfer), placeAt(event)?.id as Place | undefined);
  });
}

listen();
byId('version').textContent = made.zkkrum;
byId('tools').textContent = `Noir ${made.noir}, bb ${made.bb}`;
byId('known').textContent = String(Object.keys(made.keys).length);
if (globalThis.crypto?.subtle) {
  void sha256(new TextEncoder().encode(source)).then((digest) => (byId('self').textContent = hex(digest)));
  tools.bb.start().then(
    () => (document.body.dataset['state'] = 'ready'),
    (error: unknown) => undecided(error),
  );
} else {
  undecided(new InputError('this browser offers no SHA-256 here', 'open the page from disk, or from an https address'));
}
