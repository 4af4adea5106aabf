// Made from the widgets' files by tests/front/schema_types.py; dimensions are named in schema.py.

export interface MethodTitle {
  name: string;
  source: string;
  says: string;
}

export interface OfferedData {
  target: number | null;
  explained: string;
  named: string;
  score: number;
}

export interface CheckedClasses {
  why: string;
  verdict: string;
  other: string;
  value: number;
  scores: DataView | null; // float32 P
  correlation: number | null;
  shared: number[];
  count: number;
}

export interface CheckedRemoval {
  why: string;
  verdict: string;
  unit: string;
  whole: number;
  strongest: number;
  random: number;
  count: number;
  draws: number;
}

export interface CheckedMethods {
  why: string;
  verdict: string;
  agreeing: string[];
  others: string[];
  count: number;
}

export interface CheckedOutliers {
  verdict: string;
  patches: number[];
  count: number;
  share: number;
  advice: string;
}

export interface TrustData {
  classes: CheckedClasses;
  removal: CheckedRemoval | null;
  methods: CheckedMethods | null;
  outliers: CheckedOutliers;
}

export interface OfflineData {
  offered: OfferedData[];
  methods: string[]; // M
  specific: boolean[];
  grown: string[]; // D
  layers: number; // size L
  scores: DataView; // float32 K M P
  growth: DataView; // float32 K D L P
  trust: TrustData[];
}

export interface Preparing {
  size: number[] | null;
  filter: string;
  crop: number[];
  mean: number[];
  std: number[];
}

export interface LiveData {
  code: string;
  spec: Record<string, any>;
  weights: DataView;
  classes: string[];
  preparing: Preparing | null;
  why: string;
}

export interface LivePicture {
  name: string;
  url: string;
  picture: string | null;
  pixels: DataView | null;
  numbers: DataView | null;
}

export interface LiveChoice {
  picture: number;
  target: number | null;
  method: string;
}

export interface LivePage {
  engine: LiveData;
  pictures: LivePicture[];
  first: LiveChoice;
  unit: string;
  methods: string[];
  specific: Record<string, boolean>;
  others: string[];
  compared: string[];
  removed: string[];
  titles: Record<string, MethodTitle>;
  readout: string;
  prefixNames: string[];
  dashes: string[];
  counts: number[];
  shuffle: number[];
  chance: number[];
  draws: number[][];
  paths: number;
  halved: number;
  settings: Record<string, Record<string, any>>;
  registers: string;
  weighted: string[];
  differences: DataView; // uint8 256 3
  colours: DataView; // uint8 256 3
}

export interface ExplorerData {
  classes: string[];
  chosen: string | null;
  predicts: boolean;
  methods: string[];
  titles: Record<string, MethodTitle>;
  views: Record<string, string>;
  says: Record<string, string>;
  colours: DataView; // uint8 256 3
  differences: DataView; // uint8 256 3
  offline?: OfflineData;
  live?: LivePage;
  view?: string;
}

export interface ExplorerShown {
  rows: number;
  columns: number;
  aspect: number;
  offset: number[]; // 2
  picture: string | null;
  note: string;
  method: string;
  specific: boolean;
  explained: string;
  named: string;
  target: number | null;
  score: number;
  unit: string;
  layers: number; // size L
  heads: number; // size H
  values: DataView; // float32 C
  scores: DataView; // float32 P
  growth: DataView | null; // float32 L P
}

export interface Coded {
  codes: DataView;
  low: DataView;
  high: DataView;
}

export interface RowsData {
  indices: number[]; // B
  heads: number[]; // S
  patches: number[]; // K
  attention: Coded; // L S K P
  update: Coded; // B L S K P
  product?: Coded; // L S K P
  contribution?: Coded; // B L K P
}

export interface LayerStepperData {
  rows: number;
  columns: number;
  aspect: number;
  offset: number[]; // 2
  pictures: string[];
  names: string[]; // B
  probabilities: number[] | null; // B
  answers: number[]; // B
  colours: DataView; // uint8 256 3
  layers: number; // size L
  heads: number; // size H
  weightHeads: number; // size G
  prefix: number;
  choice: string;
  readout: string;
  imageOf: number[]; // B
  gradient: boolean;
  factors: DataView; // uint8 256 3
  attentionReadout: DataView; // float32 I L H P
  updateReadout: DataView; // float32 B L H P
  contributionReadout: DataView; // float32 B L P
  weight: DataView; // float32 I L G N
  ratio: DataView; // float32 I L G N
  cosine: DataView; // float32 I L G N
  necc: DataView; // float32 I L G N
  taken: RowsData[];
  offered?: number[];
  inPage?: boolean;
}

export interface MethodComparisonData {
  rows: number;
  columns: number;
  aspect: number;
  offset: number[]; // 2
  pictures: string[];
  names: string[]; // B
  probabilities: number[] | null; // B
  answers: number[]; // B
  colours: DataView; // uint8 256 3
  methods: string[]; // M
  titles: Record<string, MethodTitle>;
  chance: boolean[]; // M
  failures: Record<string, string>;
  scores: DataView; // float32 M B P
  share: DataView; // float32 M B P
  rank: DataView; // float32 M B P
  agreement: DataView; // float32 B M M
  differences: DataView; // uint8 256 3
}

export interface PathExplorerData {
  rows: number;
  columns: number;
  aspect: number;
  offset: number[]; // 2
  pictures: string[];
  names: string[]; // B
  probabilities: number[] | null; // B
  answers: number[]; // B
  colours: DataView; // uint8 256 3
  layers: number; // size L
  headCount: number; // size H
  count: number; // size K
  prefixNames: string[];
  tokens: DataView; // int16 B P K L+1
  heads: DataView; // int16 B P K L
  values: DataView; // float32 B P K
  total: DataView; // float32 B P
  through: DataView; // float32 B P L H
  stayed: DataView; // float32 B P L
}

export interface PerturbationPlayerData {
  rows: number;
  columns: number;
  aspect: number;
  offset: number[]; // 2
  pictures: string[];
  methods: string[]; // M
  titles: Record<string, MethodTitle>;
  failures: Record<string, string>;
  explained: string;
  names: string[]; // C
  unit: string;
  dashes: string[]; // C
  counts: number[]; // S
  replace: string;
  rankings: DataView; // int16 M P
  curves: DataView; // float32 M 2 S C
  areas: DataView; // float32 M 2
}

export interface SceneTableData {
  live: LiveData;
  sheet: DataView;
  grounds: DataView;
  drawings: string[][];
  seen: number[];
  backgrounds: string[];
  colours: DataView; // uint8 256 3
  differences: DataView; // uint8 256 3
}

export interface StatisticData {
  name: string;
  title: string;
  unit: string;
  says: string;
  digits: number;
  means: number[][];
  deviations: number[][];
  alike: number;
}

export interface DrivenData {
  patch: number;
  ofLargest: number;
  times: number;
  crop: string;
  window: number[];
  picture: number | null;
  source: string;
  label: string | null;
}

export interface OfClassData {
  name: string;
  pictures: number;
  decided: number[];
  driving: DrivenData[];
}

export interface SurveyBrowserData {
  rows: number;
  columns: number;
  aspect: number;
  offset: number[]; // 2
  count: number;
  layers: number; // size L
  heads: number; // size H
  classCount: number; // size K
  top: number; // size T
  statistics: StatisticData[];
  classes: OfClassData[]; // K
  pictures: string[]; // I
  maps: Coded; // I P
  colours: DataView; // uint8 256 3
}

export interface PointsData {
  tokens: number[][]; // N 2
  transformed: number[][]; // N 2
}

export interface TokenPlaygroundData {
  limit: number;
  shortest: number;
  initial: PointsData;
}
