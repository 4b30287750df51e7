/**
 * The parameters of a round with what they mean, for readers who have not met them. Must not know the page.
 */

import { hexOf } from './field';
import { formOf } from './form';
import { type Round, fractionText } from './params';
import { general, grouped } from './text';

/** A parameter: its name, its value, and what it means. */
export type Term = readonly [name: string, value: string, meaning: string];

const SCORE: Record<string, string> = {
  'krum-2017': 'A client’s score is the sum of its squared distances to its n - f - 2 nearest others (Blanchard et al. 2017).',
  'all-pairs': 'A client’s score is the sum of its squared distances to all others.',
};
const DETECTION: Record<string, string> = {
  mad: 'Flagged is whose score exceeds the median by more than z median deviations and by more than the share gamma.',
  brackets:
    'Somebody is malicious if more scores lie just below the mean than above; flagged is then whose score exceeds it by z deviations.',
};
const ACCEPTANCE: Record<string, string> = {
  unflagged: 'Everybody who is not flagged is aggregated.',
  selected: 'Whoever is selected and not flagged is aggregated.',
};

/** Everything that was fixed before anybody committed. */
export function terms(round: Round): Term[] {
  const p = round.params;
  const shown: Term[] = [
    ['n', `${p.n}`, 'Clients of the round.'],
    ['d', grouped(p.d), 'Coordinates of an update: how many numbers of the model each client changed.'],
    ['b', `${p.b}`, 'Bits of a quantized coordinate.'],
    ['clip', general(round.clip), 'Coordinates are cut to between minus and plus this before they are quantized.'],
    ['f', `${p.f}`, 'How many Byzantine clients the rule is to tolerate.'],
    ['m', `${p.m}`, 'How many clients are selected: those of lowest score.'],
    ['score', p.score, SCORE[p.score]!],
    ['detection', p.detection, DETECTION[p.detection]!],
    ['z', fractionText(p.z), 'Detection threshold, in deviations.'],
    ['gamma', fractionText(p.gamma), 'Least excess over the median score, as a share of it (mad only).'],
    ['acceptance', p.acceptance, ACCEPTANCE[p.acceptance]!],
    [
      'chunk',
      grouped(p.chunk),
      formOf(p) === 'round'
        ? 'Coordinates in a leaf of a commitment: here all of them, so one proof covers the round.'
        : `Coordinates in a leaf of a commitment: the round has ${grouped(p.chunks)}, each with a proof of its own, and a verdict.`,
    ],
    ['round id', hexOf(round.roundId), 'Names the round; it never repeats.'],
    ['subject', hexOf(round.subject), 'SHA-256 of the tensor layout and the base model; zero if none was named.'],
  ];
  if (round.chainId || round.contract.some((x) => x)) {
    shown.push(['chain', `${round.chainId}`, 'The chain on which the verdict counts.']);
    shown.push(['contract', hexOf(round.contract), 'The contract there that holds the commitments.']);
  }
  shown.push(['context', hexOf(round.context), 'SHA-256 over all of this and the roster: what every commitment is bound to.']);
  return shown;
}
