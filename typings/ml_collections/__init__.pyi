"""ConfigDict as type checkers should see it: fields have any type. Its own annotations give them a union of everything."""

from ml_collections import config_dict as config_dict, config_flags as config_flags
from ml_collections.config_dict import ConfigDict as ConfigDict
