"""The tables in Markdown, and all that was measured in JSON."""

import json
import statistics

from .figures import FIGURES
from .goals import judge

ABOUT = """\
A figure is a median, with the least and the greatest of the rounds behind it; CPU is that of the server alone, \
with all its processes. Clients, origin and server share the processors, so ratios and CPU say more than speeds. \
*hit*: hubcache from its store, nginx a static file with sendfile, Varnish from file storage. *cold*: every run \
begins with a new process and an empty directory; hubcache compares the SHA-256 and syncs the file to the disk, the \
peers (nginx: proxy_cache with proxy_cache_lock) do neither. *origin* is one client straight from the origin. *last \
first byte* is the wait of the client that waited longest for its first. hubcache writes a log line for each \
request."""


def result(row, key, scale, samples, problems):
    """All that is known of a row."""
    verdicts = [judge(goal, samples) for goal in row.goals]
    contenders = {
        who: {"figures": summary(samples[who]), "samples": samples[who], "not_measured": problems.get(who)}
        for who in samples
    }
    return {"key": key, "name": row.name(scale), "contenders": contenders, "goals": verdicts}


def summary(samples):
    figures = {}
    for figure in samples[0] if samples else ():
        values = [sample[figure] for sample in samples]
        figures[figure] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return figures


def markdown(results, about):
    parts = [goals_table(results), figures_table(results), circumstances(about), ABOUT]
    return "\n\n".join(parts) + "\n"


def goals_table(results):
    lines = ["| work | what | hubcache | against | measured | goal | met |", "|---|---|---|---|---|---|---|"]
    for row in results:
        name = row["name"]
        for verdict in row["goals"]:
            figure, peer = FIGURES[verdict["figure"]], verdict["against"]
            ours, *_ = row["contenders"].values()
            shown = ours["figures"].get(verdict["figure"])
            cells = [name, figure.title, figure.show(shown["median"]) if shown else "not measured", peer or ""]
            cells += [verdict.get("shown", "not measured"), verdict["goal"], met(verdict)]
            lines.append(line(cells))
            name = ""
    return "\n".join(lines)


def met(verdict):
    return {True: "yes", False: "**no**", None: "?"}[verdict["met"]]


def figures_table(results):
    lines = ["| work | who | figures |", "|---|---|---|"]
    for row in results:
        name = row["name"]
        for who, contender in row["contenders"].items():
            lines.append(line([name, who, figures_of(contender)]))
            name = ""
    return "\n".join(lines)


def figures_of(contender):
    shown = [spread(FIGURES[figure], values) for figure, values in contender["figures"].items()]
    if contender["not_measured"]:
        shown.append(f"not measured: {contender['not_measured']}")
    return "; ".join(shown).replace("|", "\\|")


def spread(figure, values):
    median, least, greatest = (figure.show(values[name]) for name in ("median", "min", "max"))
    if least == greatest:
        return f"{figure.title} {median}"
    unit = f" {figure.unit}"
    return f"{figure.title} {median} ({least.removesuffix(unit)} to {greatest.removesuffix(unit)})"


def line(cells):
    return "| " + " | ".join(cells) + " |"


def circumstances(about):
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{about['date']}, {about['form']}, medians of {about['rounds']} rounds; load average at the start "
        f"{about['load']:.1f}. {about['processors']} processors ({about['processor']}), "
        f"{about['memory'] / (1 << 30):.0f} GiB of memory, {about['system']}, Linux {about['kernel']}; {versions}."
    )


def write_json(path, results, about):
    path.write_text(json.dumps({"about": about, "rows": results}, indent=1) + "\n")
