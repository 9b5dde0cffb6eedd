"""The RQ internals the intake overrides or relies on: another RQ must fail here, loudly, before it fails a trader."""

from __future__ import annotations

import hashlib
import inspect
from importlib.metadata import version
from typing import Any

import pytest
from rq import Queue, SimpleWorker, executions, job, results, timeouts, worker_registration
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.worker import BaseWorker

from worker.queue import AllowlistJob, GateQueue, GateWorker, JobDeathPenalty


def source_of(found: Any) -> str:
    if isinstance(found, property):
        found = found.fget
    return inspect.getsource(found)


def digest(found: Any) -> str:
    return hashlib.sha256(source_of(found).encode()).hexdigest()[:16]


# To renew after an upgrade: read the difference of every function listed by the failure, then take its new digest.
PINNED: list[tuple[Any, str]] = [
    # Overridden, or called by an override.
    (Job.__init__, "bea0d43e718390ed"),
    (Job.refresh, "818b52b414f3efb2"),
    (Job.restore, "b81242d7b8dc260a"),
    (Job.fetch, "4c0184a10a6ca526"),
    (Job.fetch_many, "04cf72c02cbdd0ff"),
    (Job.func_name, "bf03aef34369170c"),
    (Job.func, "2347dd5ec6918732"),
    (Job.success_callback, "6d23cf7db33ece09"),
    (Job.failure_callback, "0bccbb92ea7d8764"),
    (Job.stopped_callback, "39852cf148dc2028"),
    (Job._deserialize_data, "00c06178d415b147"),
    (Job._execute, "d49a6f89c0857bc4"),
    (Queue.dequeue_any, "dfecb63b2b5cd660"),
    (Queue.enqueue_dependents, "d44fb82f9e19e826"),
    (SimpleWorker.execute_job, "d8a40d49f515b558"),
    (BaseWorker.__init__, "e3ed8b85f3864b20"),
    (BaseWorker.work, "04b5cdf8e554d8a2"),
    (BaseWorker.request_force_stop, "2d066de883f3276c"),
    (BaseWorker.subscribe, "3437c20bb267958f"),
    (BaseWorker.dequeue_timeout, "62cbfcfcde523452"),
    (BaseWorker.should_run_maintenance_tasks, "eda86dbb1a00e8a8"),
    (BaseWorker.run_maintenance_tasks, "b2589c362668ba3e"),
    (BaseWorker.clean_registries, "e2c9790c8156c72c"),
    (BaseWorker.heartbeat, "d00c83971db2d72f"),
    (BaseWorker.register_birth, "4690ab4f7b74ffb2"),
    (BaseWorker.register_death, "92e03f8d3c579ffa"),
    (timeouts.BaseDeathPenalty, "e2466980efb81666"),
    # Relied on: who calls the overrides, in what order, and what is written where.
    (Job.data, "7b6b6e3c008b4eb5"),
    (Job.to_dict, "2287fa954c9fa916"),
    (Job.perform, "d86f4829a8d297be"),
    (Job.prepare_for_execution, "4e8e0eca634da20b"),
    (Job._handle_success, "35b96f8229b6053d"),
    (Job._handle_failure, "3b947507f2023ef9"),
    (Job.retry, "4a0f7cec2323d8a5"),
    (Queue.lmove, "7aa797ad300b8aec"),
    (BaseWorker.perform_job, "8f75687c851037b7"),
    (BaseWorker.prepare_job_execution, "783c9dc74a37560b"),
    (BaseWorker.handle_job_success, "d3a8e0ee111a7a5a"),
    (BaseWorker.handle_job_failure, "ecfeb052c99ac675"),
    (BaseWorker.handle_exception, "e4e6449c147a9a9e"),
    (BaseWorker.dequeue_job_and_maintain_ttl, "0c0b1bc6c8734ffa"),
    (BaseWorker.bootstrap, "7197ad79c7ff3a49"),
    (BaseWorker.teardown, "bfc2572817e5fbf9"),
    (BaseWorker.request_stop, "f934e7e7e6eecfee"),
    (BaseWorker._shutdown, "3b14ae0908705c06"),
    (BaseWorker.serialize, "219368b12c2d438b"),
    (BaseWorker.set_state, "bb8d4f1d93ff078b"),
    (executions.Execution.create, "11d84f7f0f523489"),
    (executions.Execution.serialize, "41f84dc13055540a"),
    (executions.prepare_execution, "67351870bec3fddb"),
    (executions.cleanup_execution, "2e97724f99a968f7"),
    (StartedJobRegistry.add_execution, "058aeccefc8e8ea8"),
    (FinishedJobRegistry.cleanup, "8d3debb01fc55a89"),
    (FailedJobRegistry.cleanup, "8d3debb01fc55a89"),
    (results.Result.serialize, "fe329712c924adf8"),
    (worker_registration.register, "757bc1c839a259c8"),
    (worker_registration.clean_worker_registry, "3a3a413b83a3ec56"),
]


@pytest.mark.parametrize(
    ("found", "expected"), PINNED, ids=[getattr(f, "__qualname__", None) or f.fget.__qualname__ for f, _ in PINNED]
)
def test_the_source_is_the_one_that_was_read(found: Any, expected: str) -> None:
    assert digest(found) == expected


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("rq").startswith("2.12.")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(AllowlistJob, Job), (GateQueue, Queue), (GateWorker, SimpleWorker)],
    ids=["job", "queue", "worker"],
)
def test_every_override_overrides_something(ours: type, theirs: type) -> None:
    own = {
        "refuse", "run", "sweep", "stopped_on_request", "_open", "_within_limit", "_patiently", "_answer",
        "_report", "_fetch_popped", "_drop", "_beat", "_beat_until_stopped", "max_connection_wait_time",
    }  # fmt: skip
    defined = {
        name
        for name, value in vars(ours).items()
        if not name.startswith("__") and (callable(value) or isinstance(value, (property, classmethod)))
    }
    assert sorted(name for name in defined - own if not hasattr(theirs, name)) == []
    # A name of ours that RQ starts to use would be called by RQ.
    assert sorted(name for name in own - {"max_connection_wait_time"} if hasattr(theirs, name)) == []


@pytest.mark.parametrize("attribute", ["returns", "overran", "_unreadable"])
def test_rq_jobs_have_no_attribute_of_our_names(attribute: str) -> None:
    assert f"self.{attribute}" not in source_of(job.Job)


@pytest.mark.parametrize(
    "attribute", ["service", "failure_ttl_s", "_pulse", "_tell", "_sweeper", "_next_sweep_at", "liveness_s"]
)
def test_rq_workers_have_no_attribute_of_our_names(attribute: str) -> None:
    assert f"self.{attribute}" not in source_of(BaseWorker)


def test_the_catch_all_that_records_a_time_out_is_bare() -> None:
    # JobTimedOut is no Exception: RQ's own boundary must go on catching everything.
    body = source_of(BaseWorker.perform_job)
    assert "        except:  # NOQA\n" in body
    assert "with self.death_penalty_class(timeout, JobTimeoutException, job_id=job.id):" in body


def test_a_penalty_takes_what_rq_passes() -> None:
    penalty = JobDeathPenalty(5, timeouts.JobTimeoutException, job_id="a")
    assert isinstance(penalty, timeouts.BaseDeathPenalty)
    assert not issubclass(penalty._exception, Exception)


def test_keys_are_spelled_as_the_sweep_expects() -> None:
    redis: Any = object()
    queue = Queue("signals", connection=redis)
    assert queue.intermediate_queue_key == IntermediateQueue.get_intermediate_queue_key("rq:queue:signals")
    assert StartedJobRegistry("signals", redis).key == "rq:wip:signals"
    execution = executions.Execution("e1", "j1", redis)
    assert (execution.composite_key, execution.key) == ("j1:e1", "rq:execution:j1:e1")
    assert executions.ExecutionRegistry("j1", redis).key == "rq:executions:j1"
    assert SimpleWorker.redis_worker_namespace_prefix == "rq:worker:"


def test_only_known_code_calls_restore() -> None:
    # `restore` takes our cut fields; a caller that passes a whole hash read elsewhere would bypass the bound.
    functions = inspect.getmembers(Job, lambda member: inspect.isfunction(member) or inspect.ismethod(member))
    assert sorted(name for name, body in functions if ".restore(" in inspect.getsource(body)) == [
        "fetch_many",
        "refresh",
    ]
