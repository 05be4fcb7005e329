// One item of the upgrade test, which the earlier program leaves in a state and the new one finishes.

/** The steps before the upgrade come in the order of the fields; each is done for all things before the next one begins. */
export interface Thing {
  readonly name: string;
  /** How the earlier program leaves it. */
  readonly left: string;
  /** Brings it to a state in which it rests. */
  readonly leave?: () => Promise<unknown>;
  /** Sets work going that is under way when the platform is stopped. */
  readonly begin?: () => Promise<unknown>;
  /**
   * A workflow of which an activity runs once the work has begun; the next thing waits for that. Those that take a slot of
   * the earlier worker begin first.
   */
  readonly runs?: string;
  /** It begins last, in this order: the worker is stopped right afterwards. */
  readonly caught?: 1 | 2;
  /** Asks for something while the worker does nothing: it is taken, and nothing comes of it before the upgrade. */
  readonly ask?: () => Promise<unknown>;
  /** With the new program: brings it to its end. */
  readonly finish?: () => Promise<unknown>;
  readonly end: string;
  /** Its state in the API. */
  readonly state: () => Promise<string>;
}
