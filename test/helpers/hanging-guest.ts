import { baseSystem, fetchedKernels, type Kernel, runGuest } from '../vm/guest';

/** Runs a guest that does nothing for as long as it may. */
const [kernel] = fetchedKernels() as [Kernel];
void runGuest({ kernel, system: baseSystem(kernel, 'sleep 1000'), seconds: 100, memory: 512 });
