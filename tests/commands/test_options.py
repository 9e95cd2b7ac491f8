"""Options of the command line: errors of the library, which name Python arguments, name flags there."""

import pytest

from mnv3_jax.architectures.spec import ArchitectureError
from mnv3_jax.commands.options import Options, add_model_fields
from mnv3_jax.errors import UsageError


@pytest.fixture
def options():
  """Options of an imaginary verb."""
  made = Options("export", "Exports.", "mnv3 export")
  made.add_argument("file", metavar="FILE", nargs="?")
  made.add_argument("--from", dest="source")
  made.add_argument("--quantize")
  made.add_argument("--workdir")
  made.add_argument("--flip", action="store_true")
  add_model_fields(made)
  return made


@pytest.mark.parametrize(
  ("library", "command_line"),
  [
    ("invalid quantize='int9'; expected 'int8'", "invalid --quantize='int9'; expected 'int8'"),
    ("flip=True goes with segmentation", "--flip goes with segmentation"),
    ("invalid source='tim'; did you mean 'timm'?", "invalid --from='tim'; did you mean 'timm'?"),
    ("workdir=DIR has none", "--workdir DIR has none"),
    ("invalid file='a.h5'", "invalid FILE='a.h5'"),
    ("mobilenetv3_small: invalid width=-1.0; expected above 0", "mobilenetv3_small: invalid --width=-1.0; expected above 0"),
    ("invalid config.model.width=-1.0", "invalid config.model.width=-1.0"),
    ("--config.model.width=2 and --width=2", "--config.model.width=2 and --width=2"),
    ("'expansions=block_02' in 'width=2'", "'expansions=block_02' in 'width=2'"),
    ("no other=3", "no other=3"),
  ],
)
def test_arguments_become_flags(library, command_line, options):
  for kind in (UsageError, ArchitectureError):
    with pytest.raises(UsageError) as error, options.naming_flags():
      raise kind(library)
    assert str(error.value) == command_line


def test_other_errors_pass(options):
  with pytest.raises(KeyError), options.naming_flags():
    raise KeyError("width=2")


def test_an_unset_variable_is_an_error(options):
  with pytest.raises(UsageError, match="--quantize: expected one argument, got an empty one"):
    options.parse(["--quantize", ""])


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (("--outt", "a"), "export has no option '--outt'; did you mean '--out'?"),
    (("--outt=a",), "export has no option '--outt'; did you mean '--out'?"),
    (("--workdir", "run"), "export: the following arguments are required: --out"),
    (("--config.train.epochs=1",), "export: the following arguments are required: --out"),
  ],
)
def test_a_misspelt_option_that_is_required_is_named(words, sentence, options):
  options.add_argument("--out", required=True)
  with pytest.raises(UsageError) as error:
    options.parse(words)
  assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (["--width_rule=slim"], "--width_rule has an effect only with --width"),
    (["--atrous=torchvision"], "--atrous has an effect only with --output_stride"),
    (["--flip"], "--flip has an effect only with --quantize int8 or int8_integer"),
    (["--flip", "--quantize=none"], "--flip has an effect only with --quantize int8 or int8_integer"),
  ],
)
def test_an_option_without_effect_is_refused(words, sentence, options):
  options.only_with("--flip", "--quantize int8|int8_integer")
  with pytest.raises(UsageError) as error:
    options.parse(words)
  assert str(error.value) == sentence


def test_an_option_with_its_other_is_taken(options):
  options.only_with("--flip", "--quantize int8|int8_integer")
  given = options.parse(["--flip", "--quantize=int8", "--width_rule=slim", "--width=0.5"])
  assert given.flip and given.width_rule == "slim"
