// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ISlasher} from "../ISlasher.sol";

/// @title A hostile slasher: calls back with prepared calldata while it is told to slash.
contract ReentrantSlasher is ISlasher {
    /// @notice Reports received.
    uint256 public calls;
    /// @notice Whether the last call back succeeded.
    bool public succeeded;
    /// @notice What the last call back returned.
    bytes public answer;
    bytes private _callback;

    function prepare(bytes calldata callback) external {
        _callback = callback;
    }

    function slashOperator(address, SlashingParams calldata)
        external
        returns (uint256 slashId, uint256[] memory shares)
    {
        slashId = ++calls;
        shares = new uint256[](1);
        shares[0] = 1;
        (succeeded, answer) = msg.sender.call(_callback);
    }

    function isOperatorSlashable(address, OperatorSet memory) external pure returns (bool) {
        return true;
    }
}
