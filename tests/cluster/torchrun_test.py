"""depthlens under the real torchrun: the run folder is that of one process, whoever dies on the way."""
import random
import signal
import sys
import time

import cluster

TORCHRUN = cluster.find_torchrun()
PROGRAM = sys.argv[1]
TASKS = cluster.SOURCE / "data" / "tasks"
# Generous: the machine may be busy with other tests.
SECONDS = 150


def corpus():
    inputs = [flag for path in sorted(cluster.CORPORA.iterdir()) for flag in ("--input", path)]
    return ["analyze", *inputs, "--lens", "logit", "--lens", f"tuned:{cluster.DEMO_LENS}", "--threads", 1]


def torchrun(*arguments, **more):
    return cluster.torchrun(TORCHRUN, *arguments, **more)


class TorchrunTest(cluster.Case):
    @classmethod
    def setUpClass(cls):
        cls.reference = cluster.Reference(PROGRAM)
        cls.addClassCleanup(cls.reference.remove)
        cls.whole = cls.reference.run(corpus())

    def setUp(self):
        super().setUp()
        self.out = self.folder / "out"

    def program(self, *more, arguments=None):
        return [PROGRAM, *(arguments or corpus()), "--out", self.out, *more]

    def start(self, num_ranks, *more, restarts=0, resume=False, log="log"):
        flags = ["--resume"] if resume else []
        return torchrun("--nproc-per-node", num_ranks, "--max-restarts", restarts, *more, *self.program(*flags),
                        log=self.folder / log)

    def node(self, port, log, restarts=0):
        """One of two agents, each of which takes itself for a machine with two ranks."""
        return self.start(2, "--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-id", "two", "--rdzv-endpoint",
                          f"127.0.0.1:{port}", restarts=restarts, log=log)

    def check_ended(self, agent):
        self.assertEqual(agent.wait(SECONDS), 0, agent.log_text())

    def check_complete(self):
        self.assert_same_run(self.whole, self.out)
        self.assert_nothing_left(self.out)

    def kill_one(self, agent, num_ranks, most_seconds=2.0):
        """Kills a rank at some moment of its work; False where all had ended before."""
        started = lambda: len(cluster.ranks_of(agent.pid, PROGRAM)) == num_ranks
        self.assertTrue(cluster.wait_until(started, SECONDS), agent.log_text())
        time.sleep(random.uniform(0.2, most_seconds))
        victims = cluster.ranks_of(agent.pid, PROGRAM)
        return bool(victims) and cluster.kill(random.choice(victims), signal.SIGKILL)

    def interrupted(self, num_ranks):
        """Leaves a run behind that a rank's death has ended, whatever it had done by then."""
        for attempt in range(4):
            cluster.remove(self.out)
            with self.start(num_ranks, log=f"log-{attempt}") as agent:
                killed = self.kill_one(agent, num_ranks, most_seconds=2.0 / (attempt + 1))
                status = agent.wait(SECONDS)
                self.assertNotEqual(status, -1)
            # A rank may be killed after it had done its share: the run is whole then.
            if killed and status != 0 and not (self.out / "summary.json").exists():
                return
        self.fail("the run was complete each time before a rank could be killed")

    def test_two_to_four_ranks(self):
        for num_ranks in (2, 4):
            with self.subTest(ranks=num_ranks):
                cluster.remove(self.out)
                with self.start(num_ranks) as agent:
                    self.check_ended(agent)
                self.check_complete()

    def test_tasks(self):
        cases = {"facts": "facts.jsonl", "choices": "choices.jsonl", "pos": "words.conllu", "patching": "pairs.jsonl"}
        for experiment, file in cases.items():
            with self.subTest(experiment=experiment):
                arguments = ["analyze", "--experiment", experiment, "--input", TASKS / file, "--threads", 1]
                whole = self.reference.run(arguments)
                cluster.remove(self.out)
                with torchrun("--nproc-per-node", 2, *self.program(arguments=arguments),
                              log=self.folder / "log") as agent:
                    self.check_ended(agent)
                self.assert_same_run(whole, self.out)

    def test_a_killed_rank_starts_again(self):
        with self.start(3, restarts=3) as agent:
            self.kill_one(agent, 3)
            self.check_ended(agent)
        self.check_complete()

    def test_one_process_goes_on_after_a_rank_was_killed(self):
        self.interrupted(2)
        with cluster.Process(self.program("--resume"), log=self.folder / "resumed") as process:
            self.check_ended(process)
        self.check_complete()

    def test_other_ranks_go_on_after_a_rank_was_killed(self):
        self.interrupted(2)
        with self.start(3, resume=True) as agent:
            self.check_ended(agent)
        self.check_complete()

    def test_ranks_go_on_after_one_process_was_killed(self):
        with cluster.Process(self.program(), log=self.folder / "first") as process:
            time.sleep(random.uniform(0.5, 2))
            cluster.kill(process.pid, signal.SIGKILL)
            process.wait(10)
        with self.start(2, resume=True) as agent:
            self.check_ended(agent)
        self.check_complete()

    def test_the_agent_is_told_to_end(self):
        with self.start(2) as agent:
            started = lambda: len(cluster.ranks_of(agent.pid, PROGRAM)) == 2
            self.assertTrue(cluster.wait_until(started, SECONDS), agent.log_text())
            time.sleep(random.uniform(0.5, 1.5))
            cluster.kill(agent.pid, signal.SIGTERM)
            self.assertNotEqual(agent.wait(SECONDS), -1)
        with self.start(2, resume=True, log="resumed") as agent:
            self.check_ended(agent)
        self.check_complete()

    def test_a_complete_run_is_refused_and_resuming_leaves_it(self):
        with self.start(2) as agent:
            self.check_ended(agent)
        before = (self.out / "run.json").read_bytes()
        with self.start(2, log="again") as agent:
            self.assertNotIn(agent.wait(SECONDS), (0, -1))
            self.assertIn("depthlens: error:", agent.log_text())
        with self.start(2, resume=True) as agent:
            self.check_ended(agent)
        self.assertEqual((self.out / "run.json").read_bytes(), before)
        self.check_complete()

    def test_two_machines(self):
        port = cluster.free_port()
        with self.node(port, "log-0") as first, self.node(port, "log-1") as second:
            self.check_ended(first)
            self.check_ended(second)
        self.check_complete()

    def test_a_rank_dies_on_one_of_two_machines(self):
        port = cluster.free_port()
        with self.node(port, "log-0", restarts=3) as first, self.node(port, "log-1", restarts=3) as second:
            self.kill_one(second, 2)
            self.check_ended(first)
            self.check_ended(second)
        self.check_complete()

    def rank_without_an_agent(self, port, rank, *more):
        """One of two ranks that a script starts."""
        environment = cluster.clean_environment(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                                                MASTER_PORT=str(port))
        return cluster.Process(self.program(*more), environment, self.folder / f"rank-{rank}")

    def ranks_without_an_agent(self, *more_of_rank):
        """Both, with what each is given besides."""
        port = cluster.free_port()
        return [self.rank_without_an_agent(port, rank, *more) for rank, more in enumerate(more_of_rank)]

    def test_ranks_without_an_agent(self):
        first, second = self.ranks_without_an_agent([], [])
        with first, second:
            self.check_ended(first)
            self.check_ended(second)
        self.check_complete()

    def test_a_rank_fails_where_no_agent_sees_it(self):
        for failing in (0, 1):
            with self.subTest(rank=failing):
                cluster.remove(self.out)
                for log in self.folder.glob("rank-*"):
                    log.unlink()
                processes = self.ranks_without_an_agent([], [])
                with processes[0], processes[1]:
                    begun = lambda: "windows" in processes[failing].log_text()
                    self.assertTrue(cluster.wait_until(begun, SECONDS))
                    time.sleep(0.5)  # it decodes by then, and nothing is told to end at once any more
                    cluster.kill(processes[failing].pid, signal.SIGTERM)
                    self.assertEqual(processes[failing].wait(SECONDS), 130, processes[failing].log_text())
                    self.assertEqual(processes[1 - failing].wait(60), 3, processes[1 - failing].log_text())
                    self.assertIn(f"rank {failing} has failed", processes[1 - failing].log_text())
                with cluster.Process(self.program("--resume"), log=self.folder / "resumed") as process:
                    self.check_ended(process)
                self.check_complete()

    def test_a_rank_is_started_again_alone(self):
        for attempt in range(3):
            with self.subTest(attempt=attempt):
                cluster.remove(self.out)
                for log in self.folder.glob("rank-*"):
                    log.unlink()
                port = cluster.free_port()
                with self.rank_without_an_agent(port, 0) as first:
                    with self.rank_without_an_agent(port, 1) as second:
                        self.assertTrue(cluster.wait_until(lambda: "windows" in second.log_text(), SECONDS))
                        time.sleep(random.uniform(0, 1 + attempt))
                        cluster.kill(second.pid, signal.SIGKILL)
                        was_killed = second.wait(SECONDS) != 0
                    if was_killed:  # else it had done all before
                        with self.rank_without_an_agent(port, 1) as again:
                            self.check_ended(again)
                    self.check_ended(first)
                self.check_complete()

    def test_a_rank_that_comes_back_with_another_command_costs_nobody_anything(self):
        port = cluster.free_port()
        with self.rank_without_an_agent(port, 0) as first:
            with self.rank_without_an_agent(port, 1) as second:
                self.assertTrue(cluster.wait_until(lambda: "windows" in second.log_text(), SECONDS))
                cluster.kill(second.pid, signal.SIGKILL)
                if second.wait(SECONDS) == 0:
                    self.skipTest("all was done before the rank was killed")
            with self.rank_without_an_agent(port, 1, "--seed", "1") as other:
                self.assertEqual(other.wait(SECONDS), 2, other.log_text())
                self.assertIn("settings.seed", other.log_text())
            with self.rank_without_an_agent(port, 1) as again:
                self.check_ended(again)
            self.check_ended(first)
        self.check_complete()

    def test_all_ranks_are_started_again_by_hand(self):
        first, second = self.ranks_without_an_agent([], [])
        with first, second:
            self.assertTrue(cluster.wait_until(lambda: "windows" in first.log_text(), SECONDS))
            time.sleep(random.uniform(0, 2))
            for process in (first, second):
                cluster.kill(process.pid, signal.SIGKILL)
                process.wait(SECONDS)
        if (self.out / "run.json").exists():
            self.skipTest("all was done before the ranks were killed")
        first, second = self.ranks_without_an_agent([], [])
        with first, second:
            self.check_ended(first)
            self.check_ended(second)
        self.check_complete()

    def test_ranks_with_different_commands(self):
        first, second = self.ranks_without_an_agent([], ["--seed", "1"])
        with first, second:
            self.assertEqual(second.wait(SECONDS), 2, second.log_text())
            self.assertIn("settings.seed", second.log_text())
            self.assertEqual(first.wait(60), 3, first.log_text())

    def test_the_environment_is_refused_where_it_makes_no_sense(self):
        environment = cluster.clean_environment(RANK="2", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
        with cluster.Process(self.program(), environment, self.folder / "log") as process:
            self.assertEqual(process.wait(SECONDS), 2)
            self.assertIn("RANK is not below WORLD_SIZE", process.log_text())
        self.assertFalse(self.out.exists())


if __name__ == "__main__":
    cluster.main()
