// Made by scripts/wire_types.py from src/gradientflow/records. Do not edit.

/** One part of an answer. */
export interface Answer {
  part: string;
  exact: boolean;
  track: Track | null;
  apart: Apart[];
  drops: Drops | null;
  text: string;
  seconds: number;
  shadow: Shadow | null;
}

/** How far one descent is from the flow at equal flow time. */
export interface Apart {
  label: string;
  times: number[];
  distance: (number | null)[];
  relative: (number | null)[];
  predicted: (number | null)[];
  outputs: (number | null)[];
  loss: (number | null)[];
  left: number | null;
  crossed: [number, number] | null;
  why: string;
}

/** Where they end. Array: for each point of an n × n grid, rows from the bottom, the number of its place; −1: nowhere. */
export interface Basins {
  box: [number, number, number, number];
  n: number;
  places: ([number, number])[];
  shares: number[];
}

/** Ask where the drops of a grid over a box end. */
export interface BasinsAsk {
  target: string;
  box: [number, number, number, number];
  t: number;
  lane: string;
}

/** A tensor that several operations take: what comes back by each; `cosine` between the two where there are two. */
export interface Branch {
  site: string;
  name: string;
  module: string;
  norm: number | null;
  routes: Route[];
  cosine: number | null;
  residual: boolean;
}

/** Decades from the loss back to the first layer; parts sum to the total, `residual` is parts minus total. */
export interface Budget {
  total_decades: number | null;
  by_op: Share[];
  by_module: Share[];
  by_kind: Share[];
  residual: number | null;
  body_decades: number | null;
  branched: boolean;
  step: number | null;
  note: string;
  everywhere: Share[];
  worst_op: Share | null;
}

/** One parameter at one step: what was measured of it, and where it stands in the way back. */
export interface Cell {
  param: number;
  name: string;
  step: number;
  facts: ([string, string])[];
  marks: string[];
  row: number | null;
  probe: number | null;
}

/** One link between the flow and a training run, checked: it held, it is broken, or it was not measured. */
export interface Certificate {
  name: string;
  state: string;
  why: string;
  numbers: Record<string, unknown>;
}

/** One remedy as an intervention on a running script: its kind, where it acts, and with which settings. */
export interface Change {
  kind: string;
  text: string;
  places: Place[];
  settings: Record<string, number | number | string | boolean | number[]>;
}

/** One certificate: what was measured and what it may be at most. `ok` None: it could not be made, `text` says why. */
export interface Check {
  name: string;
  ok: boolean | null;
  value: number | null;
  bound: number | null;
  text: string;
}

/** Losses of the first steps, as far as they are known; None: not finite, and training ended there. */
export interface Course {
  losses: (number | null)[];
  steps: number;
  text: string;
}

/** A run over training. Steps at which loss or gradient are not finite are told apart, as (step, what). */
export interface Curves {
  first: number;
  last: number;
  lines: Line[];
  broken: ([number, string])[];
  broken_more: number;
}

/** A finding whose cause was tested by remedies of which none made anything better, and what is left of its confidence. */
export interface Doubt {
  finding: number;
  cause: string;
  trials: number;
  before: number;
  after: number;
}

/** Solve a drop. */
export interface DropAsk {
  target: string;
  start: [number, number];
  t: number;
  lane: string;
  rivals: Rival[];
  level: "drag" | "settled";
  turn: number;
  flow: boolean;
  back: boolean;
  plane: string;
  foot: string;
}

/** The paths of many drops. */
export interface Drops {
  count: number;
  method: string;
  ending: Status;
  reasons: Record<string, number>;
  ends: number[];
  loss: (number | null)[] | null;
  grad_norm: (number | null)[];
  steps: number[];
  spent: Spent;
  checks: Check[];
  rests: Rest[];
  basin: number[];
  start: ([number, number])[];
  final: ([number, number])[];
  trails: (([number, number])[])[];
  notes: string[];
  settings: Record<string, unknown>;
}

/** Lines around a line of a source file that the run recorded: (number, text, whether it is the line itself). */
export interface Excerpt {
  file: string;
  line: number;
  site: string;
  path: string | null;
  lines: ([number, string, boolean])[];
}

/** One stage of the way from the gradient to the step: its factor, and the decades that it takes or adds. */
export interface Factor {
  name: string;
  factor: number | null;
  decades: number | null;
}

/** One thing that is wrong: symptom, cause, place, the numbers it rests on, and remedies. */
export interface Finding {
  symptom: string;
  cause: string;
  confidence: number;
  place: Place | null;
  summary: string;
  evidence: Record<string, unknown>;
  remedies: Remedy[];
  reason: string;
}

/** What to do about the first finding: the best that a replay proved, else the first remedy, which is then advice. */
export interface Fix {
  kind: string;
  text: string;
  proven: boolean;
  outcome: string;
  before: string;
  after: string;
  diff: string;
  checked: string;
  reason: string;
}

/** A point where the field is zero, typed by the eigenvalues of its Jacobian. */
export interface FixedPoint {
  at: [number, number];
  kind: string;
  eigenvalues: ([number, number])[];
  loss: number | null;
}

/** Gradient norm of parameters over the steps, as codes: 0 nothing, 1 not finite, 2 exactly zero, else a level. */
export interface HeatMap {
  names: string[];
  params: number[];
  steps: number[];
  low: number;
  codes: string;
  left_out: number;
  kind: "biases" | "weights";
  others: number;
}

/** A run in a page. `ways` are by the number of the probe; `floats` are those of the curves, float32 in base64. */
export interface Inlined {
  view: RunView;
  ways: (InlinedWay | null)[];
  owns: (InlinedWay | null)[];
  excerpts: Excerpt[];
  curves: Curves | null;
  floats: string;
  weights: InlinedMap | null;
  biases: InlinedMap | null;
  thinned: string[];
  problems: string[];
}

/** The map of gradients, with the largest norm of each column, from which a cell's own follows. */
export interface InlinedMap {
  map: HeatMap;
  largest: (number | null)[];
}

/** One probed step. Its operations carry no source: `sources` are their numbers among the page's excerpts. */
export interface InlinedWay {
  way: Way;
  routes: Routes | null;
  ops: OpSeen[];
  sources: (number | null)[];
  users: Record<string, number>;
}

/** The singular values from layer to layer in one probed step; `one` is where σ² = 1 lies, `ticks` are (place, decades). */
export interface Jacobians {
  step: number;
  summary: string;
  one: number;
  ticks: ([number, number])[];
  rows: Reach[];
}

/** A network, its data and its training, as far as they can be turned. */
export interface Knobs {
  depth: number;
  width: number;
  activation: "gelu" | "leaky_relu" | "none" | "relu" | "sigmoid" | "silu" | "tanh";
  init: "default" | "he" | "orthogonal" | "xavier";
  gain: number;
  skip: boolean;
  norm: "batch" | "layer" | "none";
  time: number;
  loss: "classes" | "distance" | "safe distance";
  lr: number;
  seed: number;
}

/** Look at a network. lane: who asks; a later ask on a lane ends the earlier one. */
export interface KnobsAsk {
  knobs: Knobs;
  lane: string;
}

/** What the knobs start with: networks to try, and how far each number may be turned. */
export interface KnobsOpened {
  knobs: Knobs;
  presets: Preset[];
  ranges: Record<string, [number, number]>;
  steps: number;
}

/** What one look at a network showed. */
export interface KnobsSeen {
  knobs: Knobs;
  view: RunView;
  way: Way;
  law: Law;
  script: string;
  mend: Turn | null;
  seconds: number;
}

/** The gradient at each layer (or time step), last first, in decades against the last: as it is, and as mean-field theory has it. */
export interface Law {
  unit: "layer" | "time step";
  measured: (number | null)[];
  theory: number[];
  each_measured: number | null;
  each_theory: number;
  critical: number | null;
  text: string;
}

/** How much of dθ/dt each layer has on a path: ‖∂L/∂layer‖² / ‖∂L/∂θ‖², which sum to 1 over the layers. */
export interface LayerShares {
  times: number[];
  layers: string[];
}

/** One curve, thinned: so many points; behind the header stand its steps, less `Curves.first`, and then its values. */
export interface Line {
  name: "2/η" | "gradient" | "learning rate" | "loss" | "sharpness" | "update/weight";
  count: number;
  optimizer: number;
  log: boolean;
}

/** Solve many drops at once. */
export interface LineAsk {
  target: string;
  starts: ([number, number])[];
  t: number;
  lane: string;
}

/** Both rivers of a network: its flow through time, and how much of dθ/dt each layer has on the way. */
export interface Linked {
  times: number[];
  loss: number[];
  layers: string[];
  shares: number[][];
  until: number;
  text: string;
  seconds: number;
}

/** The way back at one time of a flow. */
export interface LinkedAt {
  index: number;
  time: number;
  way: Way;
  law: Law;
}

/** First and last loss seen. */
export interface Loss {
  first: number | null;
  last: number | null;
}

/** A field that can be chosen in the page. */
export interface Named {
  name: string;
  text: string;
}

/** A remedy of a verdict, and what came of it where it was replayed. */
export interface Offer {
  kind: string;
  text: string;
  outcome: string;
  won: boolean;
}

/** What may be tried on a run, what that runs, and what is being tried. */
export interface Offers {
  remedies: Offer[];
  runs: string;
  refused: string;
  trying: Trying | null;
}

/** One row of a way back, in full: facts in groups, and its source. */
export interface OpSeen {
  name: string;
  where: string;
  groups: ([string, ([string, string])[]])[];
  excerpt: Excerpt | null;
}

/** A field as the page opens it. */
export interface Opened {
  target: string;
  name: string;
  about: string;
  size: number;
  potential: boolean;
  box: [number, number, number, number];
  start: [number, number];
  t: number;
  lr: number;
  fields: Named[];
  tales: Tale[];
  planes: string[];
  layers: boolean;
}

/** What orders a box: points at rest, curves of them, separatrices. */
export interface Order {
  box: [number, number, number, number];
  fixed: FixedPoint[];
  valleys: (([number, number])[])[];
  ridges: (([number, number])[])[];
  separatrices: (([number, number])[])[];
  notes: string[];
}

/** How one run of the script went, judged as any run is: losses at the end, decades, symptom and cause on top. */
export interface Outlook {
  steps: number;
  loss_first: number | null;
  loss_last: number | null;
  decades: number | null;
  symptom: string;
  cause: string | null;
  summary: string;
  finite: boolean;
}

/** One of several optimizers: what it trains, its steps and losses in words, and the probe that its own way back is from. */
export interface Own {
  name: string;
  course: string;
  decades: number | null;
  probe: number | null;
  way: number | null;
}

/** Where something is: a source line, the module it runs in, and the operation. */
export interface Place {
  file: string | null;
  line: number | null;
  module: string | null;
  op: string | null;
}

/** Two orthonormal directions through a point of a space of `size` parameters. */
export interface Plane {
  kind: string;
  names: [string, string];
  about: string;
  size: number;
  share: [number, number] | null;
  curvature: [number | null, number | null] | null;
  marks: Record<string, [number, number]>;
}

/** Find a plane of a field of more than two parameters, and say where drops stand above it. */
export interface PlaneAsk {
  target: string;
  plane: string;
  lane: string;
  feet: string[];
}

/** A plane that was found. */
export interface PlaneSeen {
  text: string;
  plane: Plane;
  box: [number, number, number, number];
  feet: ([number, number, number])[];
  leak: number | null;
  notes: string[];
}

/** A network that is sick in a known way. */
export interface Preset {
  title: string;
  text: string;
  knobs: Knobs;
}

/** The singular values of one Jacobian: on a log scale from 0 to 1 their range, mean and quantiles, and the same in numbers. */
export interface Reach {
  where: string;
  name: string;
  word: string;
  mark: string;
  symptom: string;
  how: string;
  numbers: [string, string, string];
  low: number;
  high: number;
  mean: number | null;
  quantiles: number[];
  off: string;
  whole: boolean;
}

/** What to do, in words; `replayed` holds the measured effect once it was tried on the same script. */
export interface Remedy {
  kind: string;
  text: string;
  replayed: Record<string, unknown> | null;
}

/** Remedies tried on the same script: the baseline, the trials, and which of them is best. */
export interface Replay {
  baseline: Outlook;
  trials: Trial[];
  best: number | null;
  steps: number;
  seeds: number;
  seconds: number;
  budget: number;
  reproducible: boolean | null;
  notes: string[];
  doubts: Doubt[];
}

/** A place where drops came to rest, and how many: closer together than 5 ‰ of the spread of all is one place. */
export interface Rest {
  count: number;
  loss: number | null;
  grad_norm: number | null;
  at: number[];
}

/** An optimizer to run beside the flow, from the same drop. */
export interface Rival {
  kind: "adam" | "gd" | "momentum";
  lr: number;
}

/** One of several ways that the gradient takes back to a tensor. */
export interface Route {
  name: string;
  norm: number;
  share: number | null;
  gain: number | null;
  trunk: boolean;
}

/** Of one probed step what a single way back does not show: where routes part, and the gradient over the time of recurrences. */
export interface Routes {
  step: number;
  branches: Branch[];
  times: TimeRow[];
  maps: HeatMap[];
  left_out: number;
}

/** The runs that a page may open, the newest first, and which one it was started with. */
export interface RunList {
  runs: RunName[];
  called: string | null;
}

/** A run that a page may open. */
export interface RunName {
  name: string;
  age: number;
}

/** A run as the page opens it. */
export interface RunView {
  name: string;
  version: number;
  state: "ended" | "going" | "silent";
  headline: string;
  script: string;
  steps: number;
  unit: string;
  about: ([string, string])[];
  verdict: Verdict;
  probes: Tick[];
  at: number | null;
  told: Told[];
  notes: ([string, string])[];
  fix: Fix | null;
  crash: string;
  tried: string[][];
  tried_title: string;
  tried_notes: string[];
  edit: [string, string] | null;
  stages: Stages[];
  adaptive: boolean;
  optimizers: string[];
  own: Own[];
  error: string;
  mend: string;
  jacobians: Jacobians[];
  judged: boolean;
}

/** A path seen from above a plane: where it stands in it, and how far from it, at each kept moment. */
export interface Shadow {
  label: string;
  kind: string;
  times: number[];
  points: ([number, number])[];
  off: number[];
}

/** One row of the budget: what an op, module or kind did to the gradient on its way back. */
export interface Share {
  name: string;
  kind: string;
  decades: number | null;
  gain: number | null;
  left: number | null;
  norm: number | null;
  file: string | null;
  line: number | null;
  module: string | null;
  op: number | null;
  count: number;
  share: number | null;
  mark: string | null;
  body: boolean;
}

/** What a path cost. `equivalents` are gradient equivalents: gradients + 2 HVPs + ⅓ of the losses. */
export interface Spent {
  gradients: number;
  hvps: number;
  losses: number;
  seconds: number;
  inside: number;
  checking: number;
  equivalents: number;
  looking: number;
}

/** The way from the gradient to the step of one parameter group: rows of (name, a cell for each step, its decades). */
export interface Stages {
  title: string;
  steps: string[];
  rows: ([string, string[], (number | null)[]])[];
  boxed: boolean;
}

/** Why a path ended. */
export interface Status {
  reason: string;
  text: string;
  remedy: string;
}

/** The way from ∇L to Δw of one parameter group at one probed step; the decades of its stages sum to the total. */
export interface StepBudget {
  optimizer: string;
  group: number;
  step: number;
  gradient: number;
  update: number;
  stages: Factor[];
  total_decades: number | null;
  eps_rules: number | null;
  lost: number | null;
  boxed: boolean;
  index: number;
}

/** A fixed story: one drop, its optimizers, and what there is to be seen. */
export interface Tale {
  key: string;
  title: string;
  target: string;
  start: [number, number];
  t: number;
  rivals: Rival[];
  text: string;
}

/** A probed step. */
export interface Tick {
  index: number;
  step: number;
  reason: string;
  optimizer: number | null;
  traced: boolean;
  broken: boolean;
}

/** One layer and direction of a recurrence: the gradient at its states over time, and what that comes to. */
export interface TimeRow {
  name: string;
  short: string;
  values: (number | null)[];
  first: number;
  carried: string;
  reach: string;
  radius: string;
  sigma: string;
  exponent: string;
  rows: string;
  mark: string | null;
}

/** A finding, spelled: its cause in one line, where, what was measured (name, value, threshold), the source. */
export interface Told {
  cause: string;
  where: string[];
  sure: string;
  facts: ([string, string, string])[];
  excerpt: Excerpt | null;
  replayed: string[];
}

/** One path: the solved flow, or an optimizer's steps, with what was kept along it. */
export interface Track {
  label: string;
  kind: string;
  method: string;
  times: number[];
  loss: (number | null)[] | null;
  grad_norm: (number | null)[];
  sharpness: (number | null)[];
  lambda_min: (number | null)[];
  step: number[];
  stages: number[];
  ending: Status;
  spent: Spent;
  checks: Check[];
  points: ([number, number])[];
  start: number[];
  final: number[];
  notes: string[];
  settings: Record<string, unknown>;
  conserved: Record<string, [number, number]>;
  moments: number;
  steps: number | null;
  sharpness_bound: (number | null)[];
  threshold: number | null;
  threshold_name: string;
  loss_floor: (number | null)[];
  grad_floor: (number | null)[];
  clock: number[];
}

/** Train a network for so many steps. */
export interface TrainAsk {
  knobs: Knobs;
  lane: string;
  steps: number;
}

/** What one of several optimizers did: its steps, its own loss, and the way its gradient takes back to what it trains. */
export interface Trained {
  name: string;
  steps: number;
  loss: Loss;
  file: string | null;
  line: number | null;
  decades: number | null;
  index: number;
  trains: string;
  budget: Budget;
}

/** One change (or several together), tried on the same script with the same seeds and batches as the baseline. */
export interface Trial {
  changes: Change[];
  finding: number;
  outcome: string;
  reason: string;
  seeds: number;
  after: Outlook | null;
  difference: number | null;
  low: number | null;
  high: number | null;
  gone: boolean;
  remains: string;
  diff: string | null;
  diff_tried: boolean | null;
  diff_equal: boolean | null;
  before: number | null;
}

/** The losses of one run of the script, thinned; None: not finite. */
export interface TrialCourse {
  name: string;
  text: string;
  steps: number[];
  losses: (number | null)[];
}

/** Replay one remedy of a run. */
export interface TryAsk {
  name: string;
  kind: string;
}

/** A replay that was started from the page, as it stands. */
export interface Trying {
  run: string;
  kind: string;
  state: "cancelled" | "ended" | "failed" | "going";
  text: string;
  trials: TrialCourse[];
  total: number;
}

/** Knobs turned so that what was found first is mended. */
export interface Turn {
  text: string;
  knobs: Knobs;
}

/** The judgement on one run; `symptom` is the top finding's, or "healthy", or "not-measured". */
export interface Verdict {
  script: string;
  steps: number;
  loss: Loss;
  symptom: string;
  findings: Finding[];
  budget: Budget;
  watch: Watch;
  summary: string;
  certificates: Certificate[];
  step_budgets: StepBudget[];
  optimizers: Trained[];
  warned: Warned[];
  replay: Replay | null;
  schema: string;
}

/** A warning that the script was shown: what Python told of it, and the script's own line that led to it. */
export interface Warned {
  category: string;
  message: string;
  file: string;
  line: number;
  steps: number;
  count: number;
  at_file: string | null;
  at_line: number | null;
}

/** What watching was and cost: probed steps, overhead as a fraction of the script's own time, errors of ours. */
export interface Watch {
  probed_steps: number;
  overhead: number;
  errors: string[];
}

/** Samples of a box. Arrays: u, v, each n × n, rows of equal θ₂ from the bottom; loss likewise, and on a plane the leak. */
export interface Water {
  name: string;
  box: [number, number, number, number];
  n: number;
  notes: string[];
  leaks: boolean;
  middle_leak: number | null;
  shadow: Shadow | null;
}

/** Sample a box; look for what orders it too, where `structure`. On a plane coarsely at first, then up to n × n. */
export interface WaterAsk {
  target: string;
  box: [number, number, number, number];
  n: number;
  structure: boolean;
  plane: string;
  ride: string;
  at: number;
  t: number;
  lane: string;
}

/** The gradient's way back at one probed step, and its geometry: decades before and after each row, and the common scale. */
export interface Way {
  probe: number;
  step: number;
  budget: Budget;
  spans: ([number | null, number | null])[];
  low: number;
  high: number;
  first: number | null;
  whose: string;
  took: string;
  sites: string[];
  paths: string[];
  folds: ([number, number, string])[];
}

/** Look at a network where the flow of a drop is at a time; with `shares` say instead how much each layer moves, at all times. */
export interface WayAsk {
  target: string;
  foot: string;
  at: number;
  t: number;
  lane: string;
  shares: boolean;
}

/** The way back at the kept moment of a path that is nearest to the time that was asked for. */
export interface WaySeen {
  time: number;
  moments: number;
  way: Way;
  text: string;
}
