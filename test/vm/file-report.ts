/** What a guest brings back of a file of tests. */
export interface FileReport {
  name: string;
  /** Why its tests could not be run, or not all; else empty. */
  message: string;
  seconds: number;
  tests: TestReport[];
}
export interface TestReport {
  name: string;
  status: 'passed' | 'failed' | 'skipped';
  failure: string;
  seconds: number;
}
