// Loaded into every process of the tests, by --import or by support.mjs: the kernel ends it with the process that started
// it, and after as many seconds as are asked for, ".../bounds.mjs?60", whatever it is doing then. A test that goes wrong
// may leave its program without an end of its own, and a runner that is killed cannot clean up.

import koffi from "koffi";

const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

const libc = koffi.load("libc.so.6");
const parent = process.ppid;
libc.func("int prctl(int option, unsigned long signal, unsigned long, unsigned long, unsigned long)")(
    PR_SET_PDEATHSIG,
    SIGKILL,
    0,
    0,
    0,
);
// It may have gone just before.
if (process.ppid !== parent) process.kill(process.pid, "SIGKILL");

const seconds = Number(new URL(import.meta.url).search.slice(1));
if (seconds > 0) libc.func("unsigned int alarm(unsigned int seconds)")(seconds);
