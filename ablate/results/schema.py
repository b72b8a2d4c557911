"""Tables and views, by migration.

Tables live in the schema `base`, are only ever added to (but `base.sources` and `base.study_files`, which
say how far ingest has come), and are keyed with attempt and sequence number. A *source* is one run directory
as ingest met it: a run that was removed and made anew, or restored from a backup, is a new source, and the rows of
the old one are no longer shown. Views live in `main`, are public and documented in docs/results.md.
"""

from __future__ import annotations

METRICS = ("d1", "d2", "d3", "abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "log10")
"""The columns that the public views have. `metrics` in the tables holds whatever a task measures."""

TABLES = (
    "CREATE SCHEMA IF NOT EXISTS base",
    "CREATE TABLE base.migrations (version INTEGER, name VARCHAR, applied DOUBLE)",
    """CREATE TABLE base.sources (
        source BIGINT, root VARCHAR, directory VARCHAR, run_id VARCHAR, present BOOLEAN,
        identity_stamp VARCHAR, config_stamp VARCHAR, outcome_stamp VARCHAR, journal_stamp VARCHAR,
        line_start BIGINT, line_end BIGINT, line_crc BIGINT, problem VARCHAR)""",
    """CREATE TABLE base.runs (
        source BIGINT, revision INTEGER, run_id VARCHAR, name VARCHAR, task VARCHAR, recipe INTEGER, hash VARCHAR,
        settings JSON, digests JSON, configuration JSON, command VARCHAR, created DOUBLE)""",
    """CREATE TABLE base.states (
        source BIGINT, version INTEGER, state VARCHAR, reason VARCHAR, message VARCHAR, since DOUBLE)""",
    """CREATE TABLE base.attempts (
        source BIGINT, seq BIGINT, attempt INTEGER, wall DOUBLE, host VARCHAR, pid BIGINT, device VARCHAR,
        threads INTEGER, command VARCHAR, versions JSON, git JSON, resumed_from JSON, facts JSON)""",
    """CREATE TABLE base.epochs (
        source BIGINT, seq BIGINT, attempt INTEGER, epoch INTEGER, step BIGINT, wall DOUBLE, train_loss DOUBLE,
        lr DOUBLE, seconds DOUBLE, images BIGINT, images_per_second DOUBLE, peak_memory_mb DOUBLE,
        sample_order VARCHAR)""",
    """CREATE TABLE base.evaluations (
        source BIGINT, seq BIGINT, attempt INTEGER, epoch INTEGER, step BIGINT, wall DOUBLE, split VARCHAR,
        resolution VARCHAR, metrics MAP(VARCHAR, DOUBLE), loss DOUBLE, images BIGINT, skipped BIGINT, protocol JSON)""",
    "CREATE TABLE base.images (source BIGINT, seq BIGINT, image VARCHAR, metrics MAP(VARCHAR, DOUBLE))",
    """CREATE TABLE base.events (
        source BIGINT, seq BIGINT, attempt INTEGER, epoch INTEGER, step BIGINT, wall DOUBLE, name VARCHAR,
        body JSON)""",
    "CREATE TABLE base.study_files (root VARCHAR, study VARCHAR, revision INTEGER, stamp VARCHAR, present BOOLEAN)",
    """CREATE TABLE base.studies (
        root VARCHAR, study VARCHAR, revision INTEGER, task VARCHAR, file VARCHAR, text VARCHAR, overrides JSON,
        selection JSON, declared DOUBLE, axes JSON, wandb JSON)""",
    """CREATE TABLE base.cells (
        root VARCHAR, study VARCHAR, revision INTEGER, run_id VARCHAR, name VARCHAR, position INTEGER, settings JSON,
        seed BIGINT, baseline VARCHAR, current BOOLEAN)""",
)

REMARKS = (
    "ALTER TABLE base.cells ADD COLUMN notes JSON",
    "ALTER TABLE base.cells ADD COLUMN unknown JSON",
    """CREATE OR REPLACE VIEW base.shown_cells AS
        SELECT c.* FROM base.cells c JOIN base.shown_studies s USING (root, study, revision)""",
)
"""Migration 2."""

NOTES = (
    "ALTER TABLE base.runs ADD COLUMN external JSON",
    "ALTER TABLE base.sources ADD COLUMN notes_stamp VARCHAR DEFAULT ''",
    "CREATE TABLE base.notes (source BIGINT, version INTEGER, notes JSON, tags JSON)",
    """CREATE OR REPLACE VIEW base.shown_runs AS
        SELECT s.root, s.directory, r.* FROM base.shown s JOIN base.runs r USING (source)
        QUALIFY row_number() OVER (PARTITION BY r.source ORDER BY r.revision DESC) = 1""",
    """CREATE VIEW base.shown_notes AS
        SELECT s.run_id, n.notes, n.tags FROM base.shown s JOIN base.notes n USING (source)
        QUALIFY row_number() OVER (PARTITION BY n.source ORDER BY n.version DESC) = 1""",
    """CREATE OR REPLACE VIEW runs AS
        SELECT coalesce(r.run_id, c.run_id) AS run_id, c.study, coalesce(r.name, c.name) AS name,
            coalesce(t.state, 'queued') AS status, t.reason, t.message, r.settings, r.configuration,
            r.external ->> '$.file' AS external
        FROM base.shown_runs r LEFT JOIN base.newest_states t USING (source)
            FULL JOIN base.shown_cells c ON c.run_id = r.run_id
        WHERE r.run_id IS NOT NULL OR c.current""",
    """CREATE VIEW notes AS
        SELECT run_id, n.number, n."time", n.text FROM (
            SELECT run_id, unnest(from_json(notes, '[{"number": "BIGINT", "time": "DOUBLE", "text": "VARCHAR"}]')) AS n
            FROM base.shown_notes)""",
    """CREATE VIEW tags AS
        SELECT run_id, unnest(from_json(tags, '["VARCHAR"]')) AS tag FROM base.shown_notes""",
)
"""Migration 3."""

_MARKS = ", ".join(f"metrics['{key}'] AS {key}" for key in METRICS)
_IMAGE_MARKS = ", ".join(f"i.metrics['{key}'] AS {key}" for key in METRICS)

VIEWS = (
    # What is there now. The same run in two folders of runs is shown once: as it was met last.
    """CREATE VIEW base.shown AS
        SELECT source, run_id, root, directory FROM base.sources WHERE present
        QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY source DESC) = 1""",
    """CREATE VIEW base.shown_runs AS
        SELECT s.root, s.directory, r.* FROM base.shown s JOIN base.runs r USING (source)
        QUALIFY row_number() OVER (PARTITION BY r.source ORDER BY r.revision DESC) = 1""",
    """CREATE VIEW base.newest_states AS
        SELECT source, version, state, reason, message FROM base.states
        QUALIFY row_number() OVER (PARTITION BY source ORDER BY version DESC) = 1""",
    """CREATE VIEW base.shown_studies AS
        SELECT s.* FROM base.studies s JOIN base.study_files f USING (root, study, revision) WHERE f.present
        QUALIFY row_number() OVER (PARTITION BY s.study ORDER BY s.declared DESC, s.root) = 1""",
    """CREATE VIEW base.shown_cells AS
        SELECT c.* FROM base.cells c JOIN base.shown_studies s USING (root, study, revision)""",
    # An epoch that was computed again after a resume counts as the newest attempt has it.
    """CREATE VIEW base.shown_epochs AS
        SELECT s.run_id, e.* FROM base.epochs e JOIN base.shown s USING (source)
        QUALIFY row_number() OVER (PARTITION BY s.run_id, e.epoch ORDER BY e.attempt DESC, e.seq DESC) = 1""",
    """CREATE VIEW base.shown_evaluations AS
        SELECT s.run_id, e.* FROM base.evaluations e JOIN base.shown s USING (source)
        QUALIFY row_number() OVER (
            PARTITION BY s.run_id, e.epoch, e.split, e.resolution ORDER BY e.attempt DESC, e.seq DESC) = 1""",
    """CREATE VIEW base.selected AS
        SELECT s.run_id, CAST(e.body ->> 'epoch' AS INTEGER) AS epoch, CAST(e.body ->> 'value' AS DOUBLE) AS value
        FROM base.events e JOIN base.shown s USING (source) WHERE e.name = 'selected'
        QUALIFY row_number() OVER (PARTITION BY s.run_id ORDER BY e.attempt DESC, e.seq DESC) = 1""",
    # The epochs that reports are made from.
    """CREATE VIEW base.kept AS
        SELECT run_id, epoch FROM base.selected
        UNION SELECT s.run_id, max(e.epoch) FROM base.evaluations e JOIN base.shown s USING (source)
        GROUP BY s.run_id""",
    """CREATE VIEW studies AS
        SELECT s.study, s.task, s.file,
            (SELECT count(*) FROM base.shown_cells c WHERE c.study = s.study AND c.current) AS cells
        FROM base.shown_studies s""",
    """CREATE VIEW cells AS
        SELECT study, run_id, name, position, seed, settings, baseline, current FROM base.shown_cells""",
    """CREATE VIEW runs AS
        SELECT coalesce(r.run_id, c.run_id) AS run_id, c.study, coalesce(r.name, c.name) AS name,
            coalesce(t.state, 'queued') AS status, t.reason, t.message, r.settings, r.configuration
        FROM base.shown_runs r LEFT JOIN base.newest_states t USING (source)
            FULL JOIN base.shown_cells c ON c.run_id = r.run_id
        WHERE r.run_id IS NOT NULL OR c.current""",
    """CREATE VIEW epochs AS
        SELECT run_id, epoch, train_loss, lr, seconds, images_per_second, peak_memory_mb FROM base.shown_epochs""",
    f"""CREATE VIEW evaluations AS
        SELECT run_id, epoch, split, resolution, {_MARKS}, loss, images FROM base.shown_evaluations""",
    f"""CREATE VIEW image_metrics AS
        SELECT e.run_id, e.epoch, e.split, e.resolution, i.image, {_IMAGE_MARKS}
        FROM base.shown_evaluations e JOIN base.kept k USING (run_id, epoch)
            JOIN base.images i ON i.source = e.source AND i.seq = e.seq""",
    """CREATE VIEW events AS
        SELECT s.run_id, e.seq, e.epoch, e.step, e.name, e.body FROM base.events e JOIN base.shown s USING (source)""",
)

_DIFFERENCES = ", ".join(f"i.metrics['{key}'] - j.metrics['{key}'] AS {key}" for key in METRICS)

QUESTIONS = (
    # Where the numbers of a run are from: the epoch that it selected, else the newest that was evaluated.
    """CREATE VIEW base.reported AS
        SELECT s.run_id, s.source, k.epoch IS NOT NULL AS selected, coalesce(k.epoch, e.last) AS epoch, k.value,
            e.last AS last_epoch
        FROM base.shown s LEFT JOIN base.selected k USING (run_id)
            LEFT JOIN (SELECT source, max(epoch) AS last FROM base.evaluations GROUP BY source) e USING (source)""",
    """CREATE VIEW base.reported_evaluations AS
        SELECT p.run_id, p.selected, p.value, e.*
        FROM base.reported p JOIN base.evaluations e ON e.source = p.source AND e.epoch = p.epoch
        QUALIFY row_number() OVER (PARTITION BY p.run_id, e.split, e.resolution ORDER BY e.attempt DESC, e.seq DESC) = 1""",
    f"""CREATE OR REPLACE VIEW evaluations AS
        SELECT run_id, epoch, split, resolution, {_MARKS}, loss, images, skipped, protocol
        FROM base.shown_evaluations""",
    f"""CREATE VIEW best_epochs AS
        SELECT run_id, epoch, selected, value, split, resolution, {_MARKS}, loss, images, skipped, protocol
        FROM base.reported_evaluations""",
    # One evaluation of each run, as reports choose it: of `test` if there is one, at the resolution of selection.
    """CREATE VIEW base.ranked AS
        SELECT r.study, r.run_id, r.external, e.* EXCLUDE (run_id)
        FROM (SELECT v.study, v.run_id, b.external, coalesce(b.configuration ->> '$.eval.select.resolution',
                s.selection ->> '$.resolution', 'full') AS wanted
            FROM main.runs v JOIN base.shown_runs b USING (run_id)
                LEFT JOIN base.shown_studies s ON s.study = v.study) r
            JOIN base.reported_evaluations e ON e.run_id = r.run_id
        QUALIFY row_number() OVER (PARTITION BY r.study, r.run_id ORDER BY e.split <> 'test', e.split <> 'val', e.split,
            e.resolution <> r.wanted, e.resolution <> 'full', e.resolution) = 1""",
    """CREATE VIEW base.courses AS
        SELECT run_id, max(epoch) AS last_epoch, sum(seconds) / 3600 AS hours,
            sum(images) FILTER (seconds > 0) / nullif(sum(seconds) FILTER (images IS NOT NULL), 0) AS images_per_second,
            max(peak_memory_mb) AS peak_memory_mb
        FROM base.shown_epochs GROUP BY run_id""",
    """CREATE VIEW base.sizes AS
        SELECT s.run_id, TRY_CAST(e.body ->> '$.facts.parameters' AS BIGINT) AS parameters
        FROM base.events e JOIN base.shown s USING (source) WHERE e.name = 'opened'
        QUALIFY row_number() OVER (PARTITION BY s.run_id ORDER BY e.attempt DESC, e.seq DESC) = 1""",
    f"""CREATE VIEW leaderboard AS
        SELECT v.study, v.run_id, v.name, v.status, v.reason,
            CASE WHEN list_contains(from_json(b.external -> '$.unknown', '["VARCHAR"]'), 'seed') THEN NULL
                ELSE coalesce(c.seed, TRY_CAST(v.configuration ->> '$.seed' AS BIGINT)) END AS seed,
            coalesce(c.settings, '{{}}') AS axes, coalesce(c.unknown, b.external -> '$.unknown', '[]') AS unknown,
            c.baseline, e.selected,
            CASE WHEN b.external ->> '$.kind' <> 'progress log' OR b.external IS NULL THEN e.epoch
                WHEN TRY_CAST(b.configuration ->> '$.train.epochs' AS INTEGER) = 0 THEN 0
                ELSE TRY_CAST(b.external ->> '$.facts.checkpoint' AS INTEGER) END AS epoch,
            coalesce(t.last_epoch, p.last_epoch) AS last_epoch, e.split, e.resolution, e.images, e.skipped, {_MARKS},
            e.loss, to_json(e.metrics) AS metrics, e.protocol,
            coalesce(t.hours, TRY_CAST(b.external ->> '$.facts.hours' AS DOUBLE)) AS hours, t.images_per_second,
            t.peak_memory_mb, z.parameters, v.external, coalesce(n.tags, '[]') AS tags
        FROM main.runs v LEFT JOIN base.shown_runs b USING (run_id)
            LEFT JOIN base.shown_cells c ON c.study = v.study AND c.run_id = v.run_id
            LEFT JOIN base.ranked e ON e.run_id = v.run_id AND e.study IS NOT DISTINCT FROM v.study
            LEFT JOIN base.reported p ON p.run_id = v.run_id
            LEFT JOIN base.courses t ON t.run_id = v.run_id
            LEFT JOIN base.sizes z ON z.run_id = v.run_id
            LEFT JOIN base.shown_notes n ON n.run_id = v.run_id
        WHERE c.current IS NOT FALSE""",
    f"""CREATE VIEW paired AS
        SELECT c.study, c.run_id, c.baseline, c.seed, e.split, e.resolution, e.epoch, b.epoch AS baseline_epoch,
            i.image, {_DIFFERENCES}
        FROM base.shown_cells c JOIN base.reported_evaluations e ON e.run_id = c.run_id
            JOIN base.reported_evaluations b
                ON b.run_id = c.baseline AND b.split = e.split AND b.resolution = e.resolution
            JOIN base.images i ON i.source = e.source AND i.seq = e.seq
            JOIN base.images j ON j.source = b.source AND j.seq = b.seq AND j.image = i.image
        WHERE c.current AND c.baseline <> c.run_id""",
)
"""Migration 4."""
