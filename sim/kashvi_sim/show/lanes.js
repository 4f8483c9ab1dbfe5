// Draws a run (the values of show/values.py) as lanes on a time line. It asks nothing of a network and keeps no state.
// lanes.draw(svg, run, {width, from, to, picked, phone}) draws, and answers {move(now), time(x), x(time)}.
const lanes = (() => {
  'use strict';
  const SIGNS = {
    'retry': 'M-4 1a4 4 0 1 1 2 3.4M-4 1l-2.2-2M-4 1l2-2.2', 'failed': 'M-4-4L4 4M4-4L-4 4', 'handed back': 'M0 5V-4M-4 0L0-4L4 0',
    'refused': 'M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0M-3.5 3.5L3.5-3.5', 'killed': 'M0-6V6M-4-2.5H4', 'fault': 'M1-6L-3 1H3L-1 6',
    'stop': 'M-4-4H4V4H-4Z', 'pause': 'M-2-4V4M2-4V4', 'server': 'M0-5L5 0L0 5L-5 0Z', 'table': 'M-5-4H5V4H-5ZM-5-1H5',
  };
  const NS = 'http://www.w3.org/2000/svg';
  let drawn = 0;

  function make(tag, attributes, text) {
    const one = document.createElementNS(NS, tag);
    for (const name in attributes) if (attributes[name] !== undefined) one.setAttribute(name, attributes[name]);
    if (text !== undefined) one.textContent = text;
    return one;
  }

  function named(run, job) { return run.jobs[job] ? `#${job} ${run.jobs[job]}` : '#' + job; }

  /** Round steps of the axis, so that about one label fits in each 90 pixels. */
  function ticks(from, to, width) {
    const least = (to - from) * 90 / width, power = 10 ** Math.floor(Math.log10(least));
    const step = [1, 2, 5, 10].find(n => n * power >= least) * power, found = [];
    for (let n = Math.ceil(from / step - 1e-9); n * step <= to + 1e-9; n++) found.push([n * step, +(n * step).toFixed(6)]);
    return found;
  }

  function label(lane, alone) {
    const [process, thread] = lane.split(' · ');
    return alone.has(process) ? process : process + '·' + thread;
  }

  function draw(svg, run, view) {
    const {width, from, to} = view, left = view.left, right = 14, plot = Math.max(width - left - right, 40);
    const x = at => left + (at - from) / (to - from || 1) * plot;
    const tall = run.lanes.length > 10 ? 20 : 28, bar = tall - 8, top = 34, rows = Math.min(Math.max(0, ...run.waits.map(w => w[3] + 1)), 6);
    const waits = rows ? rows * 9 + 12 : 0, lane = n => top + waits + n * tall + tall / 2;
    const height = top + waits + run.lanes.length * tall + 24, clip = 'lanes' + drawn++;
    svg.replaceChildren();
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    svg.setAttribute('width', width);
    svg.setAttribute('height', height);
    const defs = svg.appendChild(make('defs')), past = make('clipPath', {id: clip}), all = make('clipPath', {id: clip + 'a'});
    const edge = past.appendChild(make('rect', {x: left - 8, y: 0, width: 0, height}));
    all.append(make('rect', {x: left - 8, y: 0, width: plot + 16, height}));
    defs.append(past, all);

    for (const [at, text] of ticks(from, to, plot)) {
      svg.append(make('line', {class: 'grid', x1: x(at), x2: x(at), y1: top - 4, y2: height - 22}));
      svg.append(make('text', {x: x(at), y: height - 7, 'text-anchor': 'middle'}, text + (at === 0 ? ' s' : '')));
    }
    const many = {};
    for (const one of run.lanes) many[one.split(' · ')[0]] = (many[one.split(' · ')[0]] || 0) + 1;
    const alone = new Set(Object.keys(many).filter(one => many[one] === 1));
    if (waits) svg.append(make('text', {x: 2, y: top + waits / 2}, view.phone ? 'due' : 'until due'));
    run.lanes.forEach((one, n) => svg.append(make('text', {class: 'lane', x: 2, y: lane(n) + 4}, label(one, alone))));
    const there = svg.appendChild(make('g', {'clip-path': `url(#${clip}a)`}));
    for (const [n, began, ended] of run.shifts) {
      const until = ended >= run.to ? to : ended;
      there.append(make('rect', {class: 'there', x: x(began), y: lane(n) - bar / 2, width: Math.max(x(until) - x(began), 1), height: bar, rx: 3}));
    }

    const ghost = svg.appendChild(make('g', {class: 'ghost', 'clip-path': `url(#${clip}a)`})), last = {};
    for (const [job, since, due, row] of run.waits) {
      const y = top + 4 + Math.min(row, 5) * 9;
      if (due > since) ghost.append(make('path', {class: 'wait', d: `M${x(since)} ${y}H${x(due)}`}));
      ghost.append(make('circle', {class: 'due', cx: x(due), cy: y, r: 3}));
    }
    for (const [n, job, attempt, how, began, ended, suspect] of run.spans) {
      const way = run.hows[how], a = x(began), b = x(way === 'running' ? to : ended), before = last[job];
      if (before) {
        const y = lane(before.n), since = Math.min(before.b, a), more = Math.min((a - since) / 2, 60);
        ghost.append(make('path', {class: 'link' + (before.way === 'failed' ? ' retried' : ''), d: `M${since} ${y}C${since + more} ${y} ${a - more} ${lane(n)} ${a} ${lane(n)}`}));
      }
      last[job] = {n, b, way};
      const kind = `span ${way.split(' ')[0]}${suspect ? ' suspect' : ''}${job === view.picked ? ' picked' : ''}`;
      const box = make('rect', {class: kind, x: a, y: lane(n) - bar / 2, width: Math.max(b - a, 3), height: bar, rx: 3, 'data-job': job});
      box.append(make('title', {}, `${named(run, job)}, attempt ${attempt}${suspect ? ', a suspect' : ''}: ${way}, ${began} s to ${ended} s`));
      ghost.append(box);
      const name = named(run, job), short = '#' + job, wide = Math.min(b, x(to)) - Math.max(a, left);
      const text = [`${name}, attempt ${attempt}${suspect ? ', a suspect' : ''}`, name + (suspect ? '?' : ''), short + (suspect ? '?' : ''), short].find(one => one.length * 6.4 + 8 < wide);
      if (text) ghost.append(make('text', {x: Math.max(a, left) + 6, y: lane(n) + 4}, text));
    }
    const told = ghost.cloneNode(true);
    told.setAttribute('class', 'past');
    told.setAttribute('clip-path', `url(#${clip})`);
    svg.append(told);

    const marks = svg.appendChild(make('g', {'clip-path': `url(#${clip}a)`})), seen = [];
    for (const [at, n, kind, job, text] of run.marks) {
      if (n < 0 || at < from || at > to) continue;
      const one = make('g', {transform: `translate(${x(at)} ${lane(n)})`});
      one.append(make('title', {}, `${at} s: ${job ? named(run, job) + ': ' : ''}${text}`), make('path', {class: 'mark ' + kind.split(' ')[0], d: SIGNS[kind]}));
      marks.append(one);
      seen.push([at, one]);
    }
    let free = -1;
    for (const [at, clause] of run.breaks) {
      if (at < from || at > to) continue;
      const one = make('g', {class: 'break'}), wide = view.phone ? 58 : 84;
      one.append(make('line', {x1: x(at), x2: x(at), y1: 20, y2: height - 22}));
      if (x(at) > free) {
        const begin = Math.min(x(at) - 1, width - wide);
        one.append(make('rect', {x: begin, y: 2, width: wide, height: 18, rx: 3}));
        one.append(make('text', {x: begin + wide / 2, y: 15, 'text-anchor': 'middle'}, view.phone ? 'broken' : clause));
        free = x(at) + wide;
      }
      svg.append(one);
      seen.push([at, one]);
    }
    const line = svg.appendChild(make('g', {class: 'now'}));
    line.append(make('line', {y1: 24, y2: height - 22}), make('path', {d: 'M-5 20H5L0 27Z'}));

    return {
      x, time: at => from + (at - left) / plot * (to - from), left, plot,
      move(now) {
        line.setAttribute('transform', `translate(${x(now)} 0)`);
        edge.setAttribute('width', Math.max(x(now) - left + 8 + 0.5, 0));
        for (const [at, one] of seen) one.classList.toggle('future', at > now + 1e-9);
      },
    };
  }
  return {draw, named};
})();
