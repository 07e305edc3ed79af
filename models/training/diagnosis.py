"""What went wrong or poorly while a forecaster was trained, in plain sentences, and what to try."""

import math
from collections.abc import Iterator, Sequence

from models.net.forecaster import ForecasterConfig
from models.output.wording import counted
from models.training.run import Ending, Epoch, TrainingConfig

VANISHED = 2.0**-24  # of a gradient: float32 rounds this away when it is added to the rest
EXPLODED = 100.0  # of a gradient through a chunk
MOSTLY = 0.5  # of the steps
OVERFITTED = 1.1  # validation loss at the end, as a multiple of the best, while the training loss still fell
PROVEN = 0.98  # proven loss, as a multiple of that of expecting no change: it has learned something of some channel
WORSE = 2.0  # validation loss, as a multiple of that of expecting no change: no lack of data explains it


def remarks(
    epochs: Sequence[Epoch],
    persistence_loss: float,
    ended: Ending,
    training: TrainingConfig,
    config: ForecasterConfig,
) -> tuple[str, ...]:
    """No sentence where all is well, and none before the first epoch is done.

    persistence_loss: of expecting no change, NaN if there was nothing to validate on.
    """
    if not epochs:
        return ()
    best = next((epoch for epoch in reversed(epochs) if epoch.best), None)
    found = [*_divergence(epochs, best, ended, training, config), *_gradients(epochs, best, training, config)]
    if ended is not Ending.DIVERGED and best:
        found += [*_forecasts(best, persistence_loss, training)] or [*_overfitting(epochs, best)]
    return tuple(found)


def _divergence(
    epochs: Sequence[Epoch], best: Epoch | None, ended: Ending, training: TrainingConfig, config: ForecasterConfig
) -> Iterator[str]:
    advice = f"Try a smaller --learning-rate than {training.learning_rate:g}"
    if ended is Ending.DIVERGED:
        last = epochs[-1]
        kept = f"epoch {best.number}" if best else "before training"
        other = f", or --cell lstm instead of {config.cell}" if config.cell.startswith("rnn") else ""
        yield (
            f"Training diverged in epoch {last.number}: its loss is {last.loss:.3g}. "
            f"The weights kept are those of {kept}. {advice}{other}."
        )
    if skipped := sum(epoch.not_finite for epoch in epochs):
        yield (
            f"Left out: {counted(skipped, 'step')} with a gradient that is not finite. "
            f"{advice}; look for absurd values in the data."
        )


def _gradients(
    epochs: Sequence[Epoch], best: Epoch | None, training: TrainingConfig, config: ForecasterConfig
) -> Iterator[str]:
    """Vanishing is judged by the weights that are kept, explosion by all epochs.

    A cell with gates has what a gradient needs to last; whether it does is for the data to say.
    """
    back = counted(training.chunk_readings, "reading")
    smaller_rate = f"a smaller --learning-rate than {training.learning_rate:g}"
    better = f"--cell lstm instead of {config.cell}" if config.cell.startswith("rnn") else smaller_rate
    grown = max((epoch.reach for epoch in epochs if not math.isnan(epoch.reach)), default=0.0)
    if grown > EXPLODED:
        yield f"Gradients explode: over {back} they grow {grown:.0e}-fold. Try {better}, or a shorter --chunk."
    left = (best or epochs[-1]).reach
    if config.cell.startswith("rnn") and left < VANISHED:
        what = f"{left:.0e} of their length" if left else "nothing"
        yield (
            f"Gradients vanish: over {back} they shrink to {what}, and nothing is learned from so far back. "
            f"If it matters, try {better}; if not, a shorter --chunk costs nothing."
        )
    clipped = sum(epoch.clipped_share for epoch in epochs) / len(epochs)
    if clipped > MOSTLY:
        longest = max(epoch.largest_norm for epoch in epochs)
        yield (
            f"Gradients longer than {training.gradient_norm:g} are clipped, and {clipped:.0%} of them were; "
            f"the longest was {longest:.3g}. Try {smaller_rate}."
        )


def _forecasts(best: Epoch, persistence_loss: float, training: TrainingConfig) -> Iterator[str]:
    if best.validation_loss >= persistence_loss and best.proven_loss < PROVEN * persistence_loss:
        yield (
            "It forecasts some channels better than `the same as before` and others worse, where the detector gives it "
            f"no weight. Its loss is {best.validation_loss:.3g}, that of no change {persistence_loss:.3g}; counting "
            f"the others as no change it is {best.proven_loss:.3g}. More streams of the others' kind may help."
        )
    elif best.validation_loss > WORSE * persistence_loss:
        yield (
            f"It forecasts worse than `the same as before`, whose loss is {persistence_loss:.3g}; "
            f"its own is {best.validation_loss:.3g}. Try a smaller --learning-rate than {training.learning_rate:g}."
        )
    elif best.validation_loss >= persistence_loss:
        yield (
            "It forecasts no better than `the same as before`. Try more data, more --epochs or more --hidden units; "
            "but there are sensors that cannot be forecast better."
        )


def _overfitting(epochs: Sequence[Epoch], best: Epoch) -> Iterator[str]:
    last = epochs[-1]
    if last.validation_loss > OVERFITTED * best.validation_loss and last.loss < best.loss:
        yield (
            f"It overfits: since epoch {best.number}, whose weights are kept, the loss fell from {best.loss:.3g} to "
            f"{last.loss:.3g} on what it learns from and rose from {best.validation_loss:.3g} to "
            f"{last.validation_loss:.3g} on what it does not. Try more data or fewer --hidden units."
        )
