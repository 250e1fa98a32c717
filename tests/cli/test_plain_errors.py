import pytest

from ddpm_pairs.cli.plain_errors import plain_error

UNION = """Parser key "model":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'lightning.LightningModule'>, <class 'NoneType'>]
  Errors:
    - Problem with given class_path 'ddpm_pairs.synthesis.PairGenerator':
        {reason}
    - Expected a <class 'NoneType'>
  Given value type: <class 'dict'>
  Given value: Namespace(class_path='ddpm_pairs.synthesis.PairGenerator')"""
LITERAL = "Parser key \"sampler\":\n          Expected a typing.Literal['ddim', 'ancestral']. Got value: euler"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            UNION.format(reason="Option 't_maxx' is not accepted"),
            "unknown option --model.t_maxx; did you mean --model.t_max?",
        ),
        (
            UNION.format(reason="Option 'zzz' is not accepted"),
            "unknown option --model.zzz; see 'ddpm-pairs predict --help'",
        ),
        (
            "Subcommand 'predict' does not accept option 'trainer.devicess'",
            "unknown option --trainer.devicess; see 'ddpm-pairs predict --help'",
        ),
        (
            "unrecognized arguments: --modell.t_max 3",
            "unknown option --modell.t_max; see 'ddpm-pairs predict --help'",
        ),
        (
            "unrecognized arguments: hello",
            "unexpected argument 'hello'; see 'ddpm-pairs predict --help'",
        ),
        (
            UNION.format(reason="the following arguments are required: hq_dir"),
            "--model.hq_dir must be set on the command line or in a --config",
        ),
        (
            "the following arguments are required: predict.data, predict.model",
            "--data and --model must be set on the command line or in a --config",
        ),
        (
            UNION.format(reason="No module named 'x'").replace("ddpm_pairs.synthesis.PairG", "x.G"),
            "--model: cannot import class x.G",
        ),
        ("channels [8] cannot\n   be divided", "channels [8] cannot be divided"),
    ],
)
def test_one_line_that_names_the_option(text, line):
    assert plain_error(TypeError(text), "predict").startswith(line)
    assert "\n" not in plain_error(TypeError(text), "predict")


def raised(text, *causes):
    error = TypeError(text)
    if causes:
        error.__cause__ = raised(*causes)
    return error


def test_wrong_value_lists_the_choices_of_the_option_alone():
    innermost = LITERAL.splitlines()[1].strip()
    error = raised(UNION.format(reason=LITERAL), LITERAL, innermost)
    assert plain_error(error, "predict") == "--model.sampler: got euler; expected ddim, ancestral"


def test_the_first_cause_speaks_and_notes_say_where():
    error = raised("Does not validate against any of the Union subtypes", "slots: got 5;\n expected 4 or 8")
    error.__cause__.add_note("(in --config a.yaml)")
    assert plain_error(error, "predict") == "slots: got 5; expected 4 or 8 (in --config a.yaml)"


def test_an_error_without_words_is_named():
    assert plain_error(TypeError(), "fit") == "TypeError"
