// The contract of EventBus, for every adapter: no losses, order per key, redelivery of unfinished events, dead letters.
import { registerCases, type Case } from './cases.ts';
import { deliveryCases } from './event-bus/delivery.ts';
import { failureCases } from './event-bus/failures.ts';
import type { BusSubject } from './event-bus/listener.ts';

export type { BusSubject };

export const eventBusCases: readonly Case<BusSubject>[] = [...deliveryCases, ...failureCases];

/** Runs the contract as jest tests; `open` is called once. */
export function eventBusContract(name: string, open: () => Promise<BusSubject>): void {
  registerCases(name, eventBusCases, open);
}
