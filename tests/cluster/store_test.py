"""The store of the ranks under the real torchrun: every part is done, whoever dies and whoever starts again."""
import os
import random
import re
import signal
import sys
import time

import cluster

TORCHRUN = cluster.find_torchrun()
PROBE = sys.argv[1]
# Generous: the machine may be busy with other tests.
SECONDS = 150


def torchrun(*arguments, **more):
    return cluster.torchrun(TORCHRUN, *arguments, **more)


class StoreTest(cluster.Case):
    def work(self, parts, milliseconds):
        (self.folder / "work").mkdir()
        return [PROBE, self.folder / "work", parts, milliseconds]

    def files(self, kind):
        return sorted(path.name for path in (self.folder / "work").glob(f"{kind}-*") if "." not in path.name)

    def check_complete(self, parts):
        self.assertEqual(set(self.files("part")), {f"part-{i}" for i in range(parts)})
        self.assertTrue((self.folder / "work" / "complete").exists())

    def starts(self):
        return [(self.folder / "work" / name).read_text() for name in self.files("start")]

    def kill_one(self, agent, world_size):
        """Kills a rank of `agent` in the midst of its work."""
        ready = lambda: len(cluster.ranks_of(agent.pid, PROBE)) == world_size and len(self.files("part")) > 3
        self.assertTrue(cluster.wait_until(ready, SECONDS), agent.log_text())
        time.sleep(random.uniform(0, 0.3))
        victims = cluster.ranks_of(agent.pid, PROBE)
        self.assertTrue(victims, "all ranks ended too early to be killed")
        cluster.kill(random.choice(victims), signal.SIGKILL)

    def test_four_ranks(self):
        with torchrun("--nproc-per-node", 4, *self.work(100, 10), log=self.folder / "log") as agent:
            self.assertEqual(agent.wait(SECONDS), 0, agent.log_text())
        self.check_complete(100)
        self.assertEqual(len(self.starts()), 4)
        found = re.fullmatch(r"restart 0 earlier 0 hosted 1 threads (\d+)", self.starts()[0])
        self.assertTrue(found, self.starts()[0])
        # A control group may allow less than the affinity does.
        self.assertLessEqual(int(found[1]), max(len(os.sched_getaffinity(0)) // 4, 1))
        self.assertGreater(len({(self.folder / "work" / name).read_text() for name in self.files("part")}), 1)

    def test_rank_0_hosts_the_store(self):
        with torchrun("--standalone", "--nproc-per-node", 3, *self.work(30, 10), log=self.folder / "log",
                      TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1") as agent:
            self.assertEqual(agent.wait(SECONDS), 0, agent.log_text())
        self.check_complete(30)
        self.assertIn("hosted 0", self.starts()[0])

    def test_killed_ranks_start_again(self):
        with torchrun("--nproc-per-node", 3, "--max-restarts", 3, *self.work(200, 30),
                      log=self.folder / "log") as agent:
            for _ in range(2):
                before = len(self.starts())
                self.kill_one(agent, 3)
                cluster.wait_until(lambda: len(self.starts()) > before + 2, SECONDS)
            self.assertEqual(agent.wait(SECONDS), 0, agent.log_text())
        self.check_complete(200)
        self.assertGreaterEqual(len(self.starts()), 6)

    def test_a_killed_rank_ends_all(self):
        with torchrun("--nproc-per-node", 2, "--max-restarts", 0, *self.work(400, 20),
                      log=self.folder / "log") as agent:
            self.kill_one(agent, 2)
            self.assertNotIn(agent.wait(SECONDS), (0, -1), agent.log_text())
        self.assertFalse((self.folder / "work" / "complete").exists())

    def test_a_rank_dies_on_one_of_two_nodes(self):
        # The other node's agent starts its ranks again too, without counting it: their restart counts differ.
        port = cluster.free_port()
        node = ["--nnodes", 2, "--nproc-per-node", 2, "--max-restarts", 3, "--rdzv-backend", "c10d", "--rdzv-id", "two",
                "--rdzv-endpoint", f"127.0.0.1:{port}", *self.work(150, 60)]
        with torchrun(*node, log=self.folder / "log-0") as first, torchrun(*node, log=self.folder / "log-1") as second:
            self.kill_one(second, 2)
            self.assertEqual(first.wait(SECONDS), 0, first.log_text() + second.log_text())
            self.assertEqual(second.wait(SECONDS), 0, second.log_text())
        self.check_complete(150)
        starts = [text.partition(" hosted")[0] for text in self.starts()]
        self.assertEqual(sorted(starts), 4 * ["restart 0 earlier 0"] + 2 * ["restart 0 earlier 1"] +
                         2 * ["restart 1 earlier 1"])


if __name__ == "__main__":
    cluster.main()
