"""What `coft describe` tells a person at its end."""

from tasks.describe.publish import DescribeSummary


def lines_of(found: DescribeSummary) -> list[str]:
    """Return what came of a run, in lines."""
    lines = [
        f"learned    {found.num_labels:,} {found.source}; no person gave any",
        f"captions   {found.num_images:,} in {found.captions}",
        f"differs    the classifier says another class of {found.num_differing:,} images; a person "
        "should look at these",
    ]
    if (right := found.measured) is not None:
        where = "test images" if right.on_test else "images, none of them held out"
        lines.append(
            f"right      {right.accuracy:.3f} by the likeliest class, {right.said_accuracy:.3f} as "
            f"said, the classifier {right.classifier_accuracy:.3f}, of {right.num_images:,} {where}"
        )
    if found.model_uri is not None:
        lines.append(f"model      {found.model_uri}")
    return [*lines, f"report     {found.report}"]
