"""The commands of `abt eval`."""

from audio_barlow_twins.shards.base.cli import command

COMMANDS = {
    "hear": command("Score a HEAR model on HEAR tasks, beside baselines.", "eval.run.runner.Hear"),
    "tasks": command("List and check HEAR task folders.", "eval.tasks.listing.Tasks"),
    "embed": command("Write one embedding for each sound file.", "eval.embed.embed.Embed"),
    "similar": command("List the sounds nearest to a clip.", "eval.share.similar.Similar"),
    "export": command("Write an encoder for use without this project.", "eval.share.export.Export"),
    "validate": command("Check a module against the HEAR API.", "eval.share.validate.Validate"),
}
