// Buses with one fault each, made around a good one.
import { setTimeout as sleep } from 'node:timers/promises';
import type { EventBus } from '../../../activities/ports.ts';
import { freshName, type Fault } from '../cases.ts';
import type { BusSubject } from '../event-bus.ts';

type Subscription = Parameters<EventBus['subscribe']>[0];
const isFault = (error: unknown): boolean => String(error).includes('planted');

const fault = (name: string, caughtBy: string, change: (good: EventBus) => Partial<EventBus>): Fault<BusSubject> => ({
  name,
  caughtBy,
  wrap: ({ bus, another, close }) => {
    const faulty = (good: EventBus): EventBus => ({ ...good, ...change(good) });
    return { bus: faulty(bus), another: async () => faulty(await another()), close };
  },
});
/** A fault in what a subscriber gets. */
const subscriberFault = (
  name: string,
  caughtBy: string,
  change: (given: Subscription) => Partial<Subscription>,
): Fault<BusSubject> =>
  fault(name, caughtBy, (good) => ({ subscribe: (given) => good.subscribe({ ...given, ...change(given) }) }));

const ORDER = 'keeps the order of each key, with no losses and no duplicates, also when publishing concurrently';

export const busFaults: readonly Fault<BusSubject>[] = [
  fault('changes what an event says', 'delivers keys and events unchanged and in order', (good) => ({
    publish: (topic, key, { data, ...event }) => good.publish(topic, key, { ...event, data: data ?? {} }),
  })),
  fault('drops an event now and then', ORDER, (good) => {
    let count = 0;
    return {
      publish: async (topic, key, event) => {
        count += 1;
        return count % 67 === 0 ? { offset: '0' } : good.publish(topic, key, event);
      },
    };
  }),
  fault('loses the order of a key', ORDER, (good) => {
    let count = 0;
    return {
      publish: async (topic, key, event) => {
        count += 1;
        if (count % 20 === 0) await sleep(30);
        return good.publish(topic, key, event);
      },
    };
  }),
  fault('stores an event twice', ORDER, (good) => ({
    publish: async (topic, key, event) => {
      if (event.id.endsWith('7')) await good.publish(topic, key, event);
      return good.publish(topic, key, event);
    },
  })),
  subscriberFault(
    'tries again what it cannot mend',
    'dead-letters an event with a non-retryable failure immediately',
    ({ handle }) => ({
      handle: (event) =>
        handle(event).catch((error: unknown) => {
          throw new Error('planted', { cause: error instanceof Error ? error.message : error });
        }),
    }),
  ),
  subscriberFault('hands over each event twice', ORDER, ({ handle }) => ({
    handle: async (event) => {
      await handle(event);
      await handle(event);
    },
  })),
  fault('begins at the newest event', 'starts a group’s first subscription at the oldest event', (good) => {
    let published = 0;
    return {
      publish: (topic, key, event) => {
        published += 1;
        return good.publish(topic, key, event);
      },
      subscribe: ({ handle, ...given }) => {
        let skip = published;
        return good.subscribe({ ...given, handle: async (event) => (skip-- > 0 ? undefined : handle(event)) });
      },
    };
  }),
  fault('refuses to wait for a topic', 'waits for a topic that does not exist yet', (good) => {
    const known = new Set<string>();
    return {
      publish: (topic, key, event) => {
        known.add(topic);
        return good.publish(topic, key, event);
      },
      subscribe: async (given) => {
        if (!known.has(given.topic)) throw new Error(`planted: unknown topic ${given.topic}`);
        return good.subscribe(given);
      },
    };
  }),
  subscriberFault('knows one group only', 'delivers every event to every group', () => ({ group: 'everybody' })),
  fault('gives every subscriber every event', 'delivers each event to one of two subscribers of a group', (good) => ({
    subscribe: (given) => good.subscribe({ ...given, group: freshName('alone') }),
  })),
  fault(
    'begins again for the next subscriber',
    'lets another subscriber of the group continue where one stopped',
    (good) => ({
      subscribe: (given) => good.subscribe({ ...given, group: freshName('alone') }),
    }),
  ),
  fault(
    'forgets over a restart how far a group has come',
    'remembers across a restart which events the group has processed',
    (good) => {
      const start = freshName('start');
      return { subscribe: (given) => good.subscribe({ ...given, group: `${given.group}-${start}` }) };
    },
  ),
  subscriberFault(
    'counts an event as finished before it is',
    'delivers unfinished events again after a restart',
    ({ handle }) => ({
      handle: async (event) => void handle(event).catch(() => undefined),
    }),
  ),
  subscriberFault('tries only once', 'retries a failed event before later ones', () => ({ retries: 0 })),
  subscriberFault(
    'tries again without an end',
    'dead-letters an event with the reason once its attempts are used up, and continues',
    () => ({
      retries: 1e9,
    }),
  ),
  subscriberFault(
    'throws away what no attempt could handle',
    'dead-letters an event with the reason once its attempts are used up, and continues',
    ({ handle, retries = 5 }) => ({
      handle: (event) =>
        handle(event).catch((error: unknown) => {
          if (event.attempt <= retries) throw error;
        }),
    }),
  ),
  subscriberFault(
    'puts away without the reason',
    'dead-letters an event with the reason once its attempts are used up, and continues',
    ({ handle }) => ({
      handle: (event) =>
        handle(event).catch((error: unknown) => {
          throw isFault(error) ? new Error('failed') : error;
        }),
    }),
  ),
  subscriberFault('keeps errors to itself', 'reports failures to the error listener', () => ({
    onError: () => undefined,
  })),
  subscriberFault(
    'hands over the next event before the last is finished',
    'delivers one event of a key at a time',
    ({ handle }) => ({
      handle: async (event) => void handle(event),
    }),
  ),
  fault(
    'stops without waiting for the handler',
    'stop() waits for the running handler, and nothing is delivered afterwards',
    (good) => ({
      subscribe: async (given) => {
        const subscription = await good.subscribe(given);
        return { stop: async () => void subscription.stop() };
      },
    }),
  ),
  fault('takes any topic for one', 'refuses invalid topics, and every call once it is closed', (good) => ({
    publish: (_topic, key, event) => good.publish('any-topic', key, event),
  })),
];
