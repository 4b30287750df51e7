// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ISlasher} from "./ISlasher.sol";

/// @title The one slasher of an operator set, in front of any number of KrumRounds contracts.
/// @notice An operator set of EigenLayer has a single slasher, and changing it takes weeks; a KrumRounds contract is
/// bound to one circuit. The AVS appoints this router once, and its owner registers each new KrumRounds here. A
/// registration is announced, and takes effect only after a delay fixed at construction, so that clients whose stake it
/// would touch can leave before; it ends at once when the owner ends it.
/// @dev What stays the AVS's own: who the owner is (a timelock, a multisig), what a contract must show before it is
/// registered, and the appointment itself.
contract SlashingRouter is ISlasher {
    /// @notice The caller is not the owner, or was not offered the ownership.
    error NotAuthorized(address caller);
    /// @notice The caller is not a registered contract, or not yet.
    error NotRegistered(address caller);
    /// @notice This router slashes for one AVS.
    error OtherAvs(address avs);
    /// @notice A constructor argument, or a contract to register, breaks the named bound.
    error BadArgument(string bound);

    /// @notice A contract may slash from this moment on, in seconds since the epoch.
    event Registered(address indexed rounds, uint256 activeFrom);
    /// @notice A contract may slash no longer.
    event Unregistered(address indexed rounds);
    /// @notice A registered contract slashed a client.
    event Forwarded(address indexed rounds, address indexed client, uint256 slashId);
    /// @notice The ownership is offered; it moves when the candidate accepts.
    event OwnershipOffered(address indexed candidate);
    /// @notice There is a new owner.
    event OwnershipTransferred(address indexed from, address indexed to);

    /// @notice Longest delay of a registration.
    uint256 public constant MAX_REGISTRATION_DELAY = 60 days;
    /// @notice Who slashes in the end: EigenLayer's AllocationManager.
    ISlasher public immutable TARGET;
    /// @notice On whose behalf.
    address public immutable AVS;
    /// @notice Seconds from a registration to its effect.
    uint256 public immutable REGISTRATION_DELAY;

    /// @notice Who registers contracts.
    address public owner;
    /// @notice Who was offered the ownership and has not accepted yet.
    address public candidate;
    /// @notice From when on a contract may slash, in seconds since the epoch; zero: not registered.
    mapping(address rounds => uint256) public activeFrom;

    modifier onlyOwner() {
        if (msg.sender != owner) revert NotAuthorized(msg.sender);
        _;
    }

    /// @param target Whom to forward to.
    /// @param avs On whose behalf, and on nobody else's.
    /// @param registrationDelay Seconds from a registration to its effect.
    /// @param firstOwner Who registers contracts.
    constructor(ISlasher target, address avs, uint256 registrationDelay, address firstOwner) {
        if (address(target).code.length == 0) revert BadArgument("target has code");
        if (avs == address(0)) revert BadArgument("avs is not zero");
        if (registrationDelay > MAX_REGISTRATION_DELAY) revert BadArgument("registration delay <= 60 days");
        if (firstOwner == address(0)) revert BadArgument("owner is not zero");
        TARGET = target;
        AVS = avs;
        REGISTRATION_DELAY = registrationDelay;
        owner = firstOwner;
        emit OwnershipTransferred(address(0), firstOwner);
    }

    /// @notice Announces that a contract may slash, from the end of the delay on.
    function register(address rounds) external onlyOwner {
        if (rounds.code.length == 0) revert BadArgument("what is registered has code");
        if (activeFrom[rounds] != 0) revert BadArgument("what is registered was not before");
        activeFrom[rounds] = block.timestamp + REGISTRATION_DELAY;
        emit Registered(rounds, activeFrom[rounds]);
    }

    /// @notice Ends a registration at once; flagged clients that were not slashed yet stay pending in that contract.
    function unregister(address rounds) external onlyOwner {
        if (activeFrom[rounds] == 0) revert NotRegistered(rounds);
        delete activeFrom[rounds];
        emit Unregistered(rounds);
    }

    /// @notice Offers the ownership.
    function offerOwnership(address to) external onlyOwner {
        candidate = to;
        emit OwnershipOffered(to);
    }

    /// @notice Accepts the offered ownership.
    function acceptOwnership() external {
        if (msg.sender != candidate) revert NotAuthorized(msg.sender);
        emit OwnershipTransferred(owner, msg.sender);
        owner = msg.sender;
        delete candidate;
    }

    /// @notice Whether a contract may slash now.
    function isActive(address rounds) public view returns (bool) {
        uint256 from = activeFrom[rounds];
        return from != 0 && block.timestamp >= from;
    }

    /// @inheritdoc ISlasher
    function slashOperator(address avs, SlashingParams calldata params)
        external
        returns (uint256 slashId, uint256[] memory shares)
    {
        if (!isActive(msg.sender)) revert NotRegistered(msg.sender);
        if (avs != AVS) revert OtherAvs(avs);
        (slashId, shares) = TARGET.slashOperator(avs, params);
        emit Forwarded(msg.sender, params.operator, slashId);
    }

    /// @inheritdoc ISlasher
    function isOperatorSlashable(address operator, OperatorSet memory operatorSet) external view returns (bool) {
        return TARGET.isOperatorSlashable(operator, operatorSet);
    }
}
