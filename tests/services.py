"""What the roles of a stack share, for tests that look past its API."""

from deploy.doctor import deployment
from shared.services import Services, build_services
from tests.stack import Stack


def services_of(stack: Stack) -> Services:
    """Those of the stack that runs, anew: nothing cached outlives what a test breaks."""
    settings, *_ = deployment(stack.data_dir)
    return build_services(settings)
