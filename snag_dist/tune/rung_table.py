"""The rungs of a sweep in words and as a table, for a terminal and for the page."""

from rich.table import Table
from rich.text import Text

from snag_dist.tune.prediction import Agreement, Prediction, RungResult

HEADINGS = (
    *("rung", "entities", "training triples", "epochs", "settings", "trials", "triples seen", "minutes"),
    *("tau with the next", "tau with the whole"),
)


def rung_rows(prediction: Prediction) -> list[list[str]]:
    """Write a row a rung, one cell a heading."""
    whole = prediction.rungs[-1].rung
    return [
        [
            name_rung(result),
            f"{result.rung.num_entities:,} ({result.rung.num_entities / whole.num_entities:.0%})",
            f"{result.rung.num_triples:,} ({result.rung.num_triples / whole.num_triples:.0%})",
            str(result.rung.epochs),
            str(len(result.figures)),
            str(result.num_trials),
            f"{result.triples_seen:,}",
            f"{result.seconds / 60:.1f}",
            write_agreement(result.with_next),
            write_agreement(result.with_whole),
        ]
        for result in prediction.rungs
    ]


def name_rung(result: RungResult) -> str:
    """Name a rung by its graph: "3-core", or "whole graph"."""
    return f"{result.rung.k}-core" if result.rung.k else "whole graph"


def write_agreement(agreement: Agreement | None) -> str:
    """Write tau and of how many settings: ".61 (n 12)"; "-" where there is none; empty for no other rung."""
    if agreement is None:
        return ""
    tau = "-" if agreement.tau is None else f"{agreement.tau:.2f}".replace("0.", ".", 1)
    return f"{tau} (n {agreement.num_settings})"


def table_of_rungs(prediction: Prediction) -> Table:
    """Lay out the rungs, cheapest first."""
    table = Table(
        title=Text("Rungs: Kendall's tau-b between the rankings of settings by dev MRR (n: settings on both)"),
        title_justify="left",
    )
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "rung" else "right")
    for row in rung_rows(prediction):
        table.add_row(*(Text(cell) for cell in row))
    return table


def describe_prediction(prediction: Prediction) -> list[str]:
    """Say in a line each how well every cheap rung predicted the whole, and what the rungs cost."""
    lines = [_describe_rung(result, prediction) for result in prediction.rungs[:-1]]
    share = prediction.triples_seen / max(1, prediction.grid_triples)
    spent = f"{prediction.triples_seen:,} training triples seen on all rungs"
    lines.append(f"{spent}, {share:.0%} of the {prediction.grid_triples:,} of a search on the whole graph alone")
    halving = prediction.halving
    if halving is not None:
        place = "the best" if halving.rank == 1 else f"number {halving.rank}"
        loss = "" if halving.rank == 1 else f", {halving.loss:.4f} of dev MRR below the best"
        cost = halving.triples_seen / max(1, prediction.grid_triples)
        lines.append(
            f"halving would have chosen {place} of {len(prediction.rungs[-1].figures)} settings{loss}, for {cost:.0%} "
            "of the triples"
        )
    return lines


def _describe_rung(result: RungResult, prediction: Prediction) -> str:
    found = result.with_whole
    assert found is not None
    whose = "all" if found.num_settings == prediction.num_settings else f"the {found.num_settings} that went on, of"
    place = f"{name_rung(result)}, {result.rung.epochs} of {prediction.rungs[-1].rung.epochs} epochs"
    if found.tau is None:
        whose = f"{found.num_settings} of the {len(result.figures)} settings"
        return f"{place}: no ranking to compare with that on the whole, which has {whose}"
    return (
        f"{place}: tau-b {found.tau:.2f} with the ranking on the whole, over {whose} {prediction.num_settings} "
        f"settings (p {found.p_value:.2g})"
    )
