// Material for the cases of buses: events, and a subscriber that records what it receives.
import type { CloudEvent, EventBus, Received } from '../../../activities/ports.ts';

export interface BusSubject {
  readonly bus: EventBus;
  /** One more connection to the same data, as another process or the next start would have; closed by the caller. */
  readonly another: () => Promise<EventBus>;
  readonly close: () => Promise<void>;
}

/** Retry pauses of the test's consumers: short, because failures are intended. */
export const PAUSE_MS = 20;
export const event = (id: string, data: unknown = { id }): CloudEvent => ({
  specversion: '1.0',
  id,
  source: 'ocdl/contract',
  type: 'ocdl.contract',
  time: '2026-01-02T03:04:05.678Z',
  datacontenttype: 'application/json',
  data,
});
export const idOf = (received: Received): string => (received.value as CloudEvent).id;

/** Subscribes and notes what comes; `on` may throw to refuse an event. */
export async function listen(
  bus: EventBus,
  topic: string,
  group: string,
  on: (received: Received) => void | Promise<void> = () => undefined,
  retries?: number,
): Promise<{ seen: Received[]; finished: string[]; stop: () => Promise<void> }> {
  const seen: Received[] = [];
  const finished: string[] = [];
  const subscription = await bus.subscribe({
    topic,
    group,
    pauseMs: PAUSE_MS,
    ...(retries !== undefined && { retries }),
    handle: async (received) => {
      seen.push(received);
      await on(received);
      finished.push(idOf(received));
    },
  });
  return { seen, finished, stop: () => subscription.stop() };
}

export async function publishAll(bus: EventBus, topic: string, key: string, ids: readonly string[]): Promise<void> {
  for (const id of ids) await bus.publish(topic, key, event(id));
}
export const numbered = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, at) => `${prefix}${at}`);
export const planted = (): never => {
  throw new Error('planted: cannot handle this');
};
