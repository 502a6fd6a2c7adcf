"""From a config to a finished run directory."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import math
import os
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cist_core.errors import Cancelled, CistError
from cist_core.files import flush, make_folder, write_whole
from cist_core.inference.run import out_of_memory
from cist_core.installing import pip
from cist_core.notebook import progress_bar
from cist_core.progress import ProgressCallback
from cist_core.registry import listed
from cist_core.training.checkpoints import load_checkpoint, save_checkpoint
from cist_core.training.config import RunConfig, config_changes, is_free_on_resume
from cist_core.training.fields import upgraded
from cist_core.training.logit_scale import ScaleFault, scale_fault
from cist_core.training.run_directory import RunDirectory
from cist_core.training.statistics import EpochStatistics
from cist_core.training.trainer import NotFiniteError, RunLength, Trainer, create_accelerator, words_on_memory
from cist_core.zoo.checkpoints import read_raw, save_weights, with_versions
from cist_core.zoo.students import has_published_weights

if TYPE_CHECKING:
    from cist_core.training.mirror.mirror import Mirror

HEARTBEAT_SECONDS = (1.0, 15.0)
"""Between two of them, at least and at most; where the disk is slow, fifty times as long as one took."""
USUAL_MOMENTUM, NOT_FORGOTTEN = 0.1, 0.05
_SLOWER = "Try a smaller optimiser.learning_rate, a warm-up or optimiser.clip_norm."

log = logging.getLogger("cist_core.training")


def train(
    config: RunConfig,
    path: str | os.PathLike[str],
    *,
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    mirror: Mirror | None = None,
) -> dict[str, Any]:
    """Run a distillation to its end, in this process.

    Args:
        config: what to do.
        path: the run directory; see `RunDirectory` for what appears in it.
        resume: go on from the last checkpoint there; afresh if there is none yet. The config must be that of the run,
            but for what does not decide its result (`is_free_on_resume`).
        should_stop: asked before every step. True ends the run like the file ``cancel`` in its directory does: it is
            saved where it is.
        mirror: of the run directory, begun; whoever has begun it closes it.

    Returns:
        The final status, as in ``status.json``.

    Raises:
        Cancelled: if the run was stopped; the message says how to resume.
        CistError: if it cannot start or go on; the status holds the same sentence as its ``reason``.
    """
    directory = RunDirectory(path)
    directory.make()
    _refuse_foreign_folder(directory)
    _check_trackers(config)
    config.check_available()
    accelerator = create_accelerator(
        config,
        log_with=list(config.machine.trackers) or None,
        project_dir=str(directory.path) if config.machine.trackers else None,
    )
    with _locked(directory, accelerator), _logging_to(directory, accelerator) as run_log:
        _refuse_what_is_there(directory, resume=resume)
        state = _state_to_resume(config, directory, accelerator.num_processes) if resume else None
        if resume and state is None:
            log.warning("There is no checkpoint in %s yet: the run starts from its beginning.", directory.path)
        if accelerator.is_main_process:  # the one that writes here, and holds the lock
            _remove_partial_files(directory)
        run = _Run(config, directory, accelerator, run_log, should_stop, mirror)
        try:
            return run.run(state)
        except Cancelled as stop:
            directory.cancel_file.unlink(missing_ok=True)  # heard; it must not stop the resumed run as well
            again = "the same command and --resume"
            if accelerator.num_processes == 1:
                place = directory.path if mirror is None else mirror.store.url
                again = f"cist distill --run-dir {shlex.quote(str(place))} --resume"
            sentence = f"The run was stopped after {run.step:,} steps and saved; go on with: {again}"
            run.end("cancelled", sentence)
            log.error("%s", sentence)
            raise Cancelled(sentence) from stop
        except CistError as error:
            _refuse_removed(directory)
            run.end("failed", str(error))
            log.error("%s", error)
            raise
        except Exception as error:  # whatever it is, the status must not say for ever that the run goes on
            _refuse_removed(directory)
            full = out_of_memory(error)
            failure = CistError(words_on_memory(error) if full else f"The run failed: {error}")
            run.end("failed", str(failure))
            (log.error if full else log.exception)("%s", failure)
            raise failure from error


def _check_trackers(config: RunConfig) -> None:
    """accelerate leaves out what is not installed, and a run without its curves is noticed too late."""
    missing = [name for name in config.machine.trackers if importlib.util.find_spec(name) is None]
    if missing:
        raise CistError(
            f"The tracker {missing[0]} is not installed; {pip(f'install {missing[0]}')}, or take it out of "
            "machine.trackers."
        )


@contextlib.contextmanager
def _locked(directory: RunDirectory, accelerator: Accelerator) -> Iterator[None]:
    """Only one run at a time in a directory."""
    if not accelerator.is_main_process:
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(directory.locked())
        except OSError as error:
            raise CistError(
                f"The run directory {directory.path} cannot be written to ({error.strerror or error}); "
                "choose another place."
            ) from error
        yield


def _refuse_what_is_there(directory: RunDirectory, *, resume: bool) -> None:
    finished = directory.status().get("state") == "finished"
    if finished and resume:
        raise CistError(
            f"The run in {directory.path} has finished; there is nothing to resume. A new run needs another --run-dir."
        )
    if not resume and any(directory.checkpoints.glob("*.pt")):
        go_on = "" if finished else "go on with it (--resume), or "
        raise CistError(f"There is a run in {directory.path} already; {go_on}choose another --run-dir.")


def _refuse_removed(directory: RunDirectory) -> None:
    """What somebody has removed does not come back, neither whole nor in part."""
    if directory.is_removed():
        raise CistError(f"The run directory {directory.path} was removed while the run went on, so the run was ended.")


def _refuse_foreign_folder(directory: RunDirectory) -> None:
    """A folder with somebody's files is no place for a run."""
    ours = {directory.lock_file, directory.cancel_file, directory.checkpoints}
    foreign = sorted(set(directory.path.iterdir()) - ours)
    if foreign and not directory.config_file.exists():
        raise CistError(
            f"Expected {directory.path} to be a run directory, a new one or an empty one, but it holds "
            f"{foreign[0].name}; choose another --run-dir."
        )


def _state_to_resume(config: RunConfig, directory: RunDirectory, processes: int) -> dict[str, Any] | None:
    state = load_checkpoint(directory.checkpoints)
    if state is not None:
        _refuse_another_config(upgraded(json.loads(state["config"])), config, directory)
    elif directory.config_file.exists():
        _refuse_another_config(directory.config().model_dump(mode="json"), config, directory)
    if state is None:
        return None
    if state["processes"] != processes:
        raise CistError(
            f"The run in {directory.path} was trained by {state['processes']} process(es), and this is {processes}; "
            "resume it with as many, because each has its share of every batch."
        )
    return state


def _refuse_another_config(stored: dict[str, Any], config: RunConfig, directory: RunDirectory) -> None:
    """A run goes on as it began; what does not decide its result may change, and is said."""
    changes = config_changes(stored, config.model_dump(mode="json"))
    refused = [change for change in changes if not is_free_on_resume(change.field)]
    if refused:
        told = "; ".join(f"{change.field} is {_written(change.old)}, not {_written(change.new)}" for change in refused)
        raise CistError(
            f"The run in {directory.path} has another config: {told}. Resume it by its own "
            f"(cist distill --run-dir {shlex.quote(str(directory.path))} --resume), or choose another --run-dir."
        )
    for change in changes:
        log.info("Resumed with another %s: %s, not %s", change.field, _written(change.new), _written(change.old))


def _written(value: object) -> str:
    return json.dumps(value)


def _remove_partial_files(directory: RunDirectory) -> None:
    """What a killed process was writing."""
    for folder in (directory.path, directory.checkpoints):
        for partial in folder.glob(".*.partial"):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _logging_to(directory: RunDirectory, accelerator: Accelerator) -> Iterator[_RunLog]:
    log.setLevel(logging.INFO if accelerator.is_main_process else logging.ERROR)
    cut = _cut_tail(directory.log_file) if accelerator.is_main_process else 0
    handler = _RunLog(directory.log_file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log.addHandler(handler)
    if cut:
        log.warning("The last %d bytes of this log were no whole lines, as after a power cut; they were cut off.", cut)
    try:
        yield handler
    finally:
        log.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()


def slow_running_mean(student: nn.Module, steps: int) -> float | None:
    """The momentum of a batch normalisation, below the usual 0.1, whose running statistics are still what they began
    with to more than `NOT_FORGOTTEN` after so many steps, ``(1 - momentum)^steps``; None where there is none such."""
    momenta = [
        layer.momentum
        for layer in student.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats and layer.momentum is not None
    ]
    slowest = min(momenta, default=1.0)
    return slowest if slowest < USUAL_MOMENTUM and (1 - slowest) ** steps > NOT_FORGOTTEN else None


def _words_on_running_means(momentum: float, steps: int) -> str:
    return (
        f"The student's batch normalisation keeps running means with a momentum of {momentum:g}, so after the "
        f"{steps:,} steps of this run they are still {100 * (1 - momentum) ** steps:.0f} % what they began with: "
        "it may be right in training and no better than chance in validation. Train for more steps, or take a student "
        "with a larger momentum."
    )


def _words_on(fault: ScaleFault, config: RunConfig) -> str:
    """What is wrong with the student's scale, and what to do about it."""
    if fault.state == "collapsed":
        meaning = "At temperature 1 its predictions are nearly uniform"
    else:
        meaning = "Its predictions are all but certain, whether right or wrong"
    if config.objective.parameters.get("floor", 1.0) < 1.0:
        remedy = "the objective's floor=1, its default, holds the scale"
    elif fault.state == "collapsed":
        remedy = "try another optimiser.learning_rate; with a warm-up or optimiser.clip_norm students bear higher ones"
    else:
        remedy = "try a smaller optimiser.learning_rate or more optimiser.weight_decay"
    return f"In epoch {fault.since} the student's logits {fault}. {meaning}; {remedy}."


def _epochs_in_words(epochs: list[int]) -> str:
    """Such as "epochs 3 to 5 and 9"."""
    spans: list[list[int]] = []
    for epoch in epochs:
        if spans and epoch == spans[-1][-1] + 1:
            spans[-1][1:] = [epoch]
        else:
            spans.append([epoch])
    words = listed([" to ".join(map(str, span)) for span in spans], joint="and")
    return f"epoch {words}" if len(epochs) == 1 else f"epochs {words}"


def _cut_tail(path: Path) -> int:
    """Cut what a power cut may leave behind the last whole line of a text file: how many bytes."""
    try:
        content = path.read_bytes()
        kept = content.rstrip(b"\0").rfind(b"\n") + 1
        if kept < len(content):
            os.truncate(path, kept)
    except OSError:
        return 0
    return len(content) - kept


class _RunLog(logging.FileHandler):
    def to_disk(self) -> None:
        """Have the disk write the lines so far."""
        with contextlib.suppress(OSError):
            self.flush()
            flush(Path(self.baseFilename))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """A full disk is reported by what fails for it, not by the log that cannot be written."""


class _Run:
    """One run: the trainer, and what is written about it."""

    def __init__(
        self,
        config: RunConfig,
        directory: RunDirectory,
        accelerator: Accelerator,
        run_log: _RunLog,
        should_stop: Callable[[], bool],
        mirror: Mirror | None,
    ) -> None:
        self.config, self.directory, self.accelerator, self._log = config, directory, accelerator, run_log
        self._asked_to_stop, self._mirror = should_stop, mirror
        self._next_beat = 0.0
        self.step = 0
        self.statistics = EpochStatistics()
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.status: dict[str, Any] = {
            "state": "running",
            "phase": "starting",
            "pid": os.getpid(),
            "processes": accelerator.num_processes,
            "started_at": time.time(),
            "logit_scale": None,
            "warnings": [],
        }

    # What the run says of itself

    def heartbeat(self, *, now: bool = False, **changes: Any) -> None:
        self.status.update(changes)
        if self._mirror is not None:
            self.status["mirror"] = self._mirror.said()
            if self.status["state"] != "running":  # the last copy comes behind it, and tells by itself how it went
                del self.status["mirror"]["fault"]
        began = time.monotonic()
        if not self.accelerator.is_main_process or not (now or began >= self._next_beat):
            return
        self.directory.write_status({**self.status, "updated_at": time.time()})
        least, most = HEARTBEAT_SECONDS
        self._next_beat = began + min(max(least, 50 * (time.monotonic() - began)), most)

    def end(self, state: str, reason: str | None = None) -> None:
        with contextlib.suppress(CistError):  # a full disk cannot say so in a file; the caller does in words
            self.heartbeat(now=True, state=state, reason=reason, ended_at=time.time(), eta_seconds=None)

    def warn(self, sentence: str) -> None:
        if sentence not in self.status["warnings"]:
            self.status["warnings"].append(sentence)
            log.warning("%s", sentence)

    def should_stop(self) -> bool:
        _refuse_removed(self.directory)
        if self._mirror is not None:
            self._mirror.check()
        return self._asked_to_stop() or self.directory.cancel_file.exists()

    def _progress(self, phase: str) -> ProgressCallback:
        def report(done: int, total: int) -> None:
            self.heartbeat(phase=phase, phase_done=done, phase_total=total)

        return report

    # The run

    def run(self, state: dict[str, Any] | None) -> dict[str, Any]:
        if self.accelerator.is_main_process:
            self.config.save(self.directory.config_file)
            make_folder(self.directory.checkpoints)
        self.heartbeat(now=True)
        trainer = self._trainer()
        self.statistics = trainer.task.new_statistics()
        for sentence in trainer.task.remarks:
            log.info("%s", sentence)
        self._start_trackers()
        length = trainer.length
        self.status.update(epochs=length.epochs, steps=length.steps)
        if state is not None:
            self._restore(trainer, state)
        self._cut_metrics(length)
        self._judge_scale(length.epochs)
        momentum = slow_running_mean(self.accelerator.unwrap_model(trainer.student), length.steps)
        named = self.config.student
        if momentum is not None and named.weights is None and not has_published_weights(named.architecture):
            self.warn(_words_on_running_means(momentum, length.steps))
        trainer.task.prepare_teacher("train")
        trainer.task.prepare_teacher("validation")
        self.heartbeat(now=True, phase="training", phase_done=None, phase_total=None)

        started, first = time.monotonic(), self.step
        epoch_started = time.monotonic()
        every = self.config.machine.checkpoint_every_steps
        with progress_bar(None, "Training", "steps") as bar:
            while self.step < length.steps:
                if trainer.any_process(self.should_stop()):  # all processes stop at the same step
                    self._save(trainer)
                    raise Cancelled
                self._step(trainer)
                if bar is not None:
                    bar(self.step, length.steps)
                speed = (self.step - first) * self.config.batch_size / (time.monotonic() - started)
                self.heartbeat(
                    step=self.step,
                    epoch=(self.step - 1) // length.steps_per_epoch,
                    samples_per_second=speed,
                    eta_seconds=(length.steps - self.step) * self.config.batch_size / speed,
                )
                if self.step % length.steps_per_epoch == 0 or self.step == length.steps:
                    self._end_epoch(trainer, time.monotonic() - epoch_started)
                    epoch_started = time.monotonic()
                elif every is not None and self.step % every == 0:
                    self._save(trainer)
        self._finish(trainer)
        return self.status

    def _trainer(self) -> Trainer:
        return Trainer(
            self.config,
            accelerator=self.accelerator,
            should_stop=self.should_stop if self.accelerator.num_processes == 1 else lambda: False,
            report=self._progress,
        )

    def _start_trackers(self) -> None:
        if self.config.machine.trackers:
            self.accelerator.init_trackers("cist-studio", config={"config": self.config.model_dump_json()})

    def _step(self, trainer: Trainer) -> None:
        at_once = trainer.at_once
        try:
            trainer.step(self.step, self.statistics)
        except NotFiniteError as error:
            rate = trainer.schedule.get_last_lr()[0]
            raise CistError(
                f"Training diverged in epoch {trainer.length.epoch_of(self.step)}, step {self.step + 1:,}, at learning "
                f"rate {rate:.3g}: {str(error).rstrip('.')}. {_SLOWER}"
            ) from error
        if trainer.at_once < at_once:
            self.warn(
                f"Memory ran out in step {self.step + 1:,} with {at_once:,} samples at a time; from there on "
                f"{trainer.at_once:,} go through the student at a time. The gradient is that of the whole batch, as "
                "before."
            )
        self.step += 1

    def _end_epoch(self, trainer: Trainer, seconds: float) -> None:
        measured = trainer.measure("validation")
        state = self.statistics.state()
        self.statistics.load({name: self.accelerator.reduce(sums) for name, sums in state.items()})
        row: dict[str, Any] = {
            "epoch": -(-self.step // trainer.length.steps_per_epoch),
            "step": self.step,
            "learning_rate": trainer.last_rate,
            **self.statistics.row(),
        }
        trainer.task.check_epoch(row)
        try:
            scores = trainer.task.scores("validation", measured)
        except CistError as error:
            what = str(error).partition(";")[0].rstrip(".")
            raise CistError(f"Training diverged in epoch {row['epoch']}: {what}. {_SLOWER}") from error
        row |= {f"val_{name}": value for name, value in scores.items()}
        row |= {"seconds": seconds, "samples_per_second": self._samples_of_epoch(trainer) / max(seconds, 1e-9)}
        self.statistics = trainer.task.new_statistics()
        self.rows.append(row)
        self._judge_scale(trainer.length.epochs)
        merit = trainer.task.merit(scores)
        if merit > self.best.get("merit", -math.inf):
            self.best = {"merit": merit, "val_accuracy": row["val_accuracy"], "epoch": row["epoch"]}
            self._save_student(trainer, self.directory.best_student)
        self._append_metrics(row)
        self.accelerator.log({key: value for key, value in row.items() if key != "epoch"}, step=self.step)
        log.info(
            "Epoch %d of %d: loss %.4f, train %.2f %%, validation %.2f %%, %.1f s",
            row["epoch"],
            trainer.length.epochs,
            row["loss_total"],
            100 * row["train_accuracy"],
            100 * row["val_accuracy"],
            seconds,
        )
        self._save(trainer)
        self.heartbeat(
            now=True,
            epoch=row["epoch"],
            step=self.step,
            last_val_accuracy=row["val_accuracy"],
            best_val_accuracy=self.best["val_accuracy"],
            best_epoch=self.best["epoch"],
        )

    def _samples_of_epoch(self, trainer: Trainer) -> int:
        steps = self.step % trainer.length.steps_per_epoch or trainer.length.steps_per_epoch
        return steps * self.config.batch_size

    def _judge_scale(self, epochs: int) -> None:
        """Say in the status whether the student's scale is at fault, and warn of it in the epoch in which it begins."""
        fault = scale_fault(self.rows, epochs)
        self.status["logit_scale"] = None if fault is None else fault.to_dict()
        if fault is not None and fault.since == self.rows[-1]["epoch"]:
            self.warn(_words_on(fault, self.config))

    def _finish(self, trainer: Trainer) -> None:
        trainer.task.prepare_teacher("test")
        self.heartbeat(now=True, phase="testing", phase_done=None, phase_total=None)
        measured = trainer.measure("test")
        last = trainer.task.scores("test", measured)
        if self.accelerator.is_main_process:
            self._save_student(trainer, self.directory.student)
            self._save_card(trainer)
            _refuse_removed(self.directory)
            trainer.task.keep(self.directory, measured)
        student = self.accelerator.unwrap_model(trainer.student)
        student.load_state_dict(with_versions(read_raw(self.directory.best_student), student))
        best = trainer.task.scores("test", trainer.measure("test"))
        teacher = trainer.task.teacher_scores("test")
        self.status.update(
            phase=None,
            epoch=trainer.length.epochs,
            **{f"test_{name}": value for name, value in last.items()},
            **{f"test_{name}_at_best": value for name, value in best.items()},
            **{f"teacher_test_{name}": value for name, value in teacher.items()},
        )
        log.info(
            "Finished: test %.2f %% (last epoch), %.2f %% (epoch %d, best on validation)%s",
            100 * last["accuracy"],
            100 * best["accuracy"],
            self.best["epoch"],
            "" if (own := teacher["accuracy"]) is None else f"; the teacher has {100 * own:.2f} %",
        )
        self.end("finished")
        self.accelerator.end_training()

    # Files

    def _save(self, trainer: Trainer) -> None:
        statistics = self.statistics.state()
        gathered = {name: self.accelerator.gather(sums.unsqueeze(0)) for name, sums in statistics.items()}
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        self._log.to_disk()
        save_checkpoint(
            self.directory.checkpoints,
            self.step,
            {
                "config": self.config.model_dump_json(),
                "step": self.step,
                "processes": self.accelerator.num_processes,
                "student": self.accelerator.unwrap_model(trainer.student).state_dict(),
                "objective": trainer.objective.state_dict(),
                "optimiser": trainer.optimiser.state_dict(),
                "schedule": trainer.schedule.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "statistics": gathered,
                "best": self.best,
                "warnings": self.status["warnings"],
            },
        )
        if self._mirror is not None:
            self._mirror.offer()

    def _restore(self, trainer: Trainer, state: dict[str, Any]) -> None:
        self.accelerator.unwrap_model(trainer.student).load_state_dict(state["student"])
        trainer.objective.load_state_dict(state["objective"])
        trainer.optimiser.load_state_dict(state["optimiser"])
        trainer.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        rank, device = self.accelerator.process_index, self.accelerator.device
        self.statistics.load({name: sums[rank].to(device) for name, sums in state["statistics"].items()})
        self.step, self.best = state["step"], state["best"]
        self.status.update(step=self.step, warnings=list(state["warnings"]))
        if self.best:
            self.best.setdefault("merit", self._merit_of_best(trainer))
            self.status.update(best_val_accuracy=self.best["val_accuracy"], best_epoch=self.best["epoch"])
        log.info("Resumed after %d steps", self.step)

    def _merit_of_best(self, trainer: Trainer) -> float:
        """For checkpoints of earlier versions, which know the accuracy alone; -inf where the metrics lack the epoch."""
        scores = {"accuracy": self.best["val_accuracy"]}
        for row in self.directory.metrics():
            if row["epoch"] == self.best["epoch"]:
                scores |= {name.removeprefix("val_"): row[name] for name in row if name.startswith("val_")}
        try:
            return trainer.task.merit(scores)
        except KeyError:
            return -math.inf

    def _cut_metrics(self, length: RunLength) -> None:
        """Rows of epochs after the checkpoint are about to come again; those before it that are gone are named."""
        if not self.accelerator.is_main_process:
            return
        self.rows = [row for row in self.directory.metrics() if row["step"] <= self.step] if self.step else []
        if self.rows:
            self.status.update(last_val_accuracy=self.rows[-1]["val_accuracy"])
        done = length.epochs if self.step >= length.steps else self.step // length.steps_per_epoch
        if gone := sorted(set(range(1, done + 1)) - {row["epoch"] for row in self.rows}):
            self.warn(
                f"The metrics of {_epochs_in_words(gone)} are gone from {self.directory.metrics_file.name}; the "
                f"checkpoint after epoch {done} was there, so the result is the same, but curves have a gap."
            )
        text = "".join(json.dumps(row) + "\n" for row in self.rows)
        self._write(self.directory.metrics_file, lambda file: file.write_text(text), what="The metrics")

    def _append_metrics(self, row: dict[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        try:
            with self.directory.metrics_file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row, allow_nan=False) + "\n")
            flush(self.directory.metrics_file)
        except OSError as error:
            raise CistError(
                f"The metrics cannot be written to {self.directory.metrics_file} ({error.strerror or error}); "
                "make room and resume."
            ) from error

    def _write(self, path: Path, write: Callable[[Path], object], *, what: str) -> None:
        write_whole(path, write, what=what, make_folders=False)

    def _save_student(self, trainer: Trainer, path: Path) -> None:
        if self.accelerator.is_main_process:
            network: nn.Module = self.accelerator.unwrap_model(trainer.student)
            self._write(path, lambda file: save_weights(network.state_dict(), file), what="The student")

    def _save_card(self, trainer: Trainer) -> None:
        card = {**trainer.task.card(), "config": self.config.model_dump(mode="json")}
        text = json.dumps(card, indent=2) + "\n"
        self._write(self.directory.student_card, lambda file: file.write_text(text), what="The student's card")
