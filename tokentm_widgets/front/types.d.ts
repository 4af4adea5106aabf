// What modules hand to each other. What Python sends is in schema.d.ts.

/** A widget's model: that of anywidget, or that of an exported page. */
export interface Model {
  get(name: string): any;
  set(name: string, value: unknown): void;
  save_changes(): void;
  send(content: unknown, callbacks?: unknown, buffers?: ArrayBuffer[]): void;
  on(event: string, listener: (...given: any[]) => void): void;
  off(event: string, listener: (...given: any[]) => void): void;
}

/** What the user chose and the kernel has not heard of yet. */
export interface User {
  choose(trait: string, value: unknown): void;
  insist(): void;
  forget(): void;
  save(): void;
}

/** What all views of one widget share: hosts hand every view a model object of its own. */
export interface Shared {
  user?: User;
  views?: number;
}

/** The page that a view is on: the colour of its text, and whether that is light on dark. */
export interface Theme {
  ink: string;
  dark: boolean;
}

/** What a view is built with. */
export interface Tools {
  model: Model;
  /** Set a trait as the user's choice. */
  choose(trait: string, value: unknown): void;
  /** Draw again, soon. */
  repaint(): void;
  theme(): Theme;
  /** Draw again whenever a trait changes; `show` is called each time, after the view has been painted. */
  follow(trait: string, show?: () => void): void;
}

/** One view of a widget: what draws it, and what ends it. */
export interface View {
  paint(): void;
  close?(): void;
}

export type Build = (root: HTMLElement, tools: Tools) => View;

/** How patches lie on the picture; see `Grid` in schema.d.ts. */
export interface Grid {
  rows: number;
  columns: number;
  aspect?: number;
  offset?: number[];
}

/** Numbers of a row over the patches. */
export type Row = Float32Array;
export type Extent = [low: number, high: number];

/** Gives row number `row`, which is `length` numbers long. */
export type Rows = (row: number, length: number) => Row;

/** Pictures as they are drawn; those that are not decoded yet are holes. */
export interface Pictures {
  colour: HTMLCanvasElement[];
  grey: HTMLCanvasElement[];
  count: number;
}
