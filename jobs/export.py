"""Hand a trained encoder over, as a directory for transformers: python jobs/export.py --run runs/world"""

from pathlib import Path
from typing import Annotated, Any

import typer

from snag_dist.config import apply_override, validate
from snag_dist.console import DryRunOption, RunOption, SetOption, console, resolve, run_folder, run_job, say
from snag_dist.export.directory import ExportConfig, describe_plan, export_run

OutOption = Annotated[Path | None, typer.Option("--out", help="Directory to make; exports/NAME of the run by default.")]
ToOption = Annotated[
    list[str] | None,
    typer.Option("--to", help="Also write for kopa, kblam, llava, faiss or parquet. May be given often."),
]


def export(
    recipe: Annotated[Path | None, typer.Option(help="Recipe of the run, in place of --run.")] = None,
    run: RunOption = None,
    out: OutOption = None,
    to: ToOption = None,
    set_: SetOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Write the best checkpoint of a run as a directory that loads with from_pretrained.

    Fields for --set: dtype (fp32, bf16, fp16, int8), tokens, max_file_bytes, llava.llm, llava.projector, faiss.factory.
    """
    folder = run_folder(run) if recipe is None else resolve(recipe, (), run).run_path
    tree: dict[str, Any] = {"to": to or []}
    for override in set_ or ():
        apply_override(tree, override)
    config = validate(ExportConfig, tree, "export")
    place = out or Path("exports") / folder.name
    if dry_run:
        console.print_json(data=config.model_dump(mode="json"))
        say(describe_plan(folder, place, config))
        return
    say(f"exported to {export_run(folder, place, config)}")


if __name__ == "__main__":
    run_job(export)
