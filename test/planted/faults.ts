// The table of planted faults, by layer.
import type { PlantedFault } from './fault.ts';
import { activityFaults } from './faults/activities.ts';
import { apiFaults } from './faults/api.ts';
import { deliveryFaults } from './faults/deliveries.ts';
import { domainFaults } from './faults/domain.ts';
import { recordsFaults } from './faults/records.ts';
import { workflowFaults } from './faults/workflows.ts';

export const faults: readonly PlantedFault[] = [
  ...domainFaults,
  ...workflowFaults,
  ...activityFaults,
  ...deliveryFaults,
  ...recordsFaults,
  ...apiFaults,
];
