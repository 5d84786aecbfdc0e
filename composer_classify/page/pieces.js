// Lists of pieces: those in which a tune may be, and those that are played one after another.

import {make, percent} from './elements.js';
import {clock} from './roll.js';

// Words for scores from a number on.
const LIKELY = [[0.6, 'likely'], [0.2, 'quite possible'], [0.03, 'possible'], [0, 'not likely']];

// The title, marked where it is only the name of a file, or where the music is another setting of it.
function titleOf({title, work, after}) {
  return `${after ? 'after ' : ''}${work ? title : `“${title}” (the name of a file)`}`;
}

// Pieces in which a tune may be, the likeliest first, each with a bar and words for how likely it is.
export function candidatesOf(candidates) {
  const entry = piece => {
    const bar = make('i'), likely = LIKELY.find(([least]) => piece.score >= least)[1];
    const share = piece.score < 0.01 ? 'less than 1%' : percent(piece.score);
    bar.style.width = `${100 * Math.min(Math.max(piece.score, 0.01), 1)}%`;
    return make('li', {}, make('span', {className: 'who'}, piece.composer), make('span', {}, titleOf(piece)),
      make('span', {className: 'meter'}, bar),
      make('small', {}, `${likely} (${share}), at ${clock(piece.offset_sec)} of the piece`));
  };
  return make('ol', {className: 'candidates'}, ...candidates.map(entry));
}

// What is played when. `seek` is called with the second of the recording that was chosen.
export function playedOf(pieces, seek) {
  const entry = piece => {
    const span = `${clock(piece.start_sec)} to ${clock(piece.end_sec)}`;
    const go = make('button', {type: 'button', className: 'link', ariaLabel: `Play from ${clock(piece.start_sec)}`,
      onclick: () => seek(piece.start_sec)}, span);
    return make('li', {}, go, make('span', {}, titleOf(piece)), make('small', {}, piece.composer));
  };
  return make('ol', {className: 'played'}, ...pieces.map(entry));
}
